// Models of several residual streams with windows, compressed entries and choices among them: what is chosen,
// the names that files use, and going back.
#include <cstring>

#include "base/temporary_directory.h"
#include "checkpoint/gguf_builder.h"
#include "checkpoint/tensor_names.h"
#include "model/testing.h"
#include "tensor/safetensors_write.h"

namespace fettle {
namespace {

struct Exact {
  Checkpoint checkpoint;
  BuiltGraph built;
  ThreadPool pool{2};
  std::unique_ptr<Executor> executor;

  explicit Exact(const std::string& path)
      : checkpoint(must(Checkpoint::open(path))), built(must(build_graph(checkpoint))) {
    auto store = std::make_shared<TransientStore>(built.graph, checkpoint, true, pool);
    executor = must(Executor::create(
        {built.graph, Plan{}, store},
        {.threads = 2, .isa = detect_isa(), .max_tokens = 320, .max_logit_rows = 320, .cache_tokens = 4096}));
  }
  std::vector<float> feed(Sequence& sequence, std::span<const int32_t> ids) {
    std::vector<float> all;
    must(executor->feed(sequence, ids, 320, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    }));
    return all;
  }
  std::vector<float> logits(std::span<const int32_t> ids) {
    Sequence sequence;
    auto all = feed(sequence, ids);
    executor->cache().release(sequence);
    return all;
  }
};

std::vector<int32_t> some_ids(int64_t n, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * 37 + i * i % 11) % vocab));
  return ids;
}

// Values of one operation by layer, as sorted rows.
using Rows = std::vector<std::vector<int64_t>>;
std::map<int64_t, Rows> chosen(Exact& model, std::initializer_list<Op> ops, std::span<const int32_t> ids) {
  std::vector<ValueId> watched;
  const Graph& graph = model.executor->graph();
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (std::count(ops.begin(), ops.end(), graph.nodes[i].op)) watched.push_back(static_cast<ValueId>(i));
  std::map<int64_t, Rows> out;
  model.executor->observe(watched,
                          [&](ValueId id, const float* data, int64_t rows, int64_t cols, int64_t ld) {
                            Rows& layer = out[graph.nodes[static_cast<size_t>(id)].layer];
                            for (int64_t r = 0; r < rows; ++r) {
                              layer.emplace_back(data + r * ld, data + r * ld + cols);
                              std::sort(layer.back().begin(), layer.back().end());
                            }
                          });
  model.logits(ids);
  model.executor->observe({}, nullptr);
  return out;
}

Rows reference_rows(const Reference& reference, const std::string& name, size_t count) {
  const auto flat = reference.ids(name);
  Rows rows(count);
  for (size_t i = 0; i < flat.size(); ++i) rows[i / (flat.size() / count)].push_back(flat[i]);
  for (auto& row : rows) std::sort(row.begin(), row.end());
  return rows;
}

TEST(Streams, ExpertsAndEntriesAreThoseOfTheReference) {
  for (const auto& [folder, name] :
       {std::pair("deepseek_v4", "t100"), std::pair("deepseek_v4", "t31"),
        std::pair("deepseek_v4-native", "t130"), std::pair("deepseek_v4-native", "t290")}) {
    Exact model(fixture(folder));
    const Reference reference(fixture(folder) + "/reference.safetensors");
    const std::string key = std::string("cases/") + name + "/";
    const auto ids = reference.ids(key + "input_ids");
    const auto routes = chosen(model, {Op::kRoute, Op::kRouteByToken}, ids);
    EXPECT_EQ(static_cast<int64_t>(routes.size()), model.built.graph.layers);
    for (const auto& [layer, rows] : routes)
      EXPECT_EQ(rows, reference_rows(reference, fmt::format("{}router/{}/ids", key, layer), ids.size()))
          << folder << " " << name << " layer " << layer;
    const auto entries = chosen(model, {Op::kIndex}, ids);
    EXPECT_GE(entries.size(), 1u);
    for (const auto& [layer, rows] : entries)
      EXPECT_EQ(rows, reference_rows(reference, fmt::format("{}csa/{}/ids", key, layer), ids.size()))
          << folder << " " << name << " layer " << layer;
  }
}

// The checkpoint again, under other names and with another configuration.
void write_renamed(const std::vector<StoredTensor>& tensors, const std::string& directory,
                   const std::function<std::string(const std::string&)>& rename, bool pack_experts,
                   const Graph& graph) {
  std::vector<TensorToWrite> out;
  std::vector<std::vector<std::byte>> stacks;
  const auto find = [&](const std::string& name) -> const StoredTensor& {
    for (const StoredTensor& t : tensors)
      if (t.name == name) return t;
    ADD_FAILURE() << name;
    return tensors.front();
  };
  for (const StoredTensor& t : tensors)
    if (!pack_experts || t.name.find(".experts.") == std::string::npos)
      out.push_back({rename(t.name), *t.dtype, t.shape, t.data});
  for (int64_t layer = 0; pack_experts && layer < graph.layers; ++layer) {
    const std::string in = fmt::format("layers.{}.ffn.experts.", layer),
                      to = fmt::format("model.layers.{}.mlp.experts.", layer);
    int64_t experts = 0;
    while (std::any_of(tensors.begin(), tensors.end(),
                       [&](const auto& t) { return t.name == fmt::format("{}{}.w1.weight", in, experts); }))
      ++experts;
    const auto stack = [&](std::initializer_list<const char*> parts, const std::string& name) {
      std::vector<std::byte>& bytes = stacks.emplace_back();
      int64_t rows = 0;
      for (int64_t e = 0; e < experts; ++e)
        for (const char* part : parts) {
          const StoredTensor& t = find(fmt::format("{}{}.{}.weight", in, e, part));
          bytes.insert(bytes.end(), t.data, t.data + t.bytes);
          rows += t.shape[0];
        }
      const StoredTensor& one = find(fmt::format("{}0.{}.weight", in, *parts.begin()));
      out.push_back({name, *one.dtype, {experts, rows / experts, one.shape[1]}, nullptr});
    };
    stack({"w1", "w3"}, to + "gate_up_proj");
    stack({"w2"}, to + "down_proj");
  }
  size_t next = 0;
  for (TensorToWrite& t : out)
    if (!t.data) t.data = stacks[next++].data();
  const Status written = write_safetensors(join_path(directory, "model.safetensors"), out);
  ASSERT_TRUE(written.ok()) << written.error().message();
}

TEST(Streams, EveryDialectOfNamesIsTheSameModel) {
  const std::string folder = fixture("deepseek_v4");
  Exact native(folder);
  const auto ids = some_ids(60, native.built.graph.vocab);
  const auto expected = native.logits(ids);
  EXPECT_TRUE(native.built.unused_tensors.empty());
  const auto tensors = must(read_safetensors(folder + "/model.safetensors"));
  const Json names = must(read_json_file(folder + "/names.json"));
  for (const char* dialect : {"memory", "saved"}) {
    TemporaryDirectory directory;
    const bool packed = std::string_view(dialect) == "memory";
    const std::string config =
        must(read_file(folder + (packed ? "/config_transformers.json" : "/config.json")));
    ASSERT_TRUE(write_file_atomic(directory / "config.json", config).ok());
    write_renamed(
        tensors, directory.path(),
        [&](const std::string& name) { return names[name][dialect].get<std::string>(); }, packed,
        native.built.graph);
    Exact renamed(directory.path());
    EXPECT_TRUE(renamed.built.unused_tensors.empty()) << renamed.built.unused_tensors.front();
    EXPECT_EQ(renamed.logits(ids), expected) << dialect;
  }
}

// The same model as a GGUF, written here with the names and fields of its converters.
GgufBuilder gguf_fields(const Json& config) {
  const auto real = [&](const char* name) { return raw(config[name].get<float>()); };
  const std::string p = "deepseek4.";
  GgufBuilder b;
  b.string("general.architecture", "deepseek4");
  for (const auto& [gguf, name] :
       std::map<std::string, const char*>{{"context_length", "max_position_embeddings"},
                                          {"embedding_length", "hidden_size"},
                                          {"block_count", "num_hidden_layers"},
                                          {"vocab_size", "vocab_size"},
                                          {"attention.head_count", "num_attention_heads"},
                                          {"attention.head_count_kv", "num_key_value_heads"},
                                          {"attention.key_length", "head_dim"},
                                          {"attention.value_length", "head_dim"},
                                          {"attention.q_lora_rank", "q_lora_rank"},
                                          {"attention.output_lora_rank", "o_lora_rank"},
                                          {"attention.output_group_count", "o_groups"},
                                          {"attention.sliding_window", "sliding_window"},
                                          {"attention.indexer.head_count", "index_n_heads"},
                                          {"attention.indexer.key_length", "index_head_dim"},
                                          {"attention.indexer.top_k", "index_topk"},
                                          {"rope.dimension_count", "qk_rope_head_dim"},
                                          {"hash_layer_count", "num_hash_layers"},
                                          {"hyper_connection.count", "hc_mult"},
                                          {"hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters"},
                                          {"expert_count", "n_routed_experts"},
                                          {"expert_used_count", "num_experts_per_tok"},
                                          {"expert_shared_count", "n_shared_experts"},
                                          {"expert_feed_forward_length", "moe_intermediate_size"}})
    b.u32(p + gguf, config[name].get<uint32_t>());
  b.u32(p + "expert_gating_func", 4)
      .pair(p + "expert_weights_norm", 7, raw<uint8_t>(1))
      .pair(p + "expert_weights_scale", 6, real("routed_scaling_factor"))
      .pair(p + "attention.layer_norm_rms_epsilon", 6, real("rms_norm_eps"))
      .pair(p + "hyper_connection.epsilon", 6, real("hc_eps"))
      .pair(p + "rope.freq_base", 6, real("rope_theta"))
      .pair(p + "attention.compress_rope_freq_base", 6, real("compress_rope_theta"))
      .string(p + "rope.scaling.type", "yarn")
      .pair(p + "rope.scaling.factor", 6, raw(4.0f))
      .u32(p + "rope.scaling.original_context_length", 256);
  std::string ratios = raw<uint32_t>(4) + raw<uint64_t>(config["compress_ratios"].size());
  for (const Json& ratio : config["compress_ratios"]) ratios += raw(ratio.get<uint32_t>());
  b.pair(p + "attention.compress_ratios", 9, ratios);
  std::string limits = raw<uint32_t>(6) + raw<uint64_t>(6);
  for (int i = 0; i < 6; ++i) limits += real("swiglu_limit");
  return b.pair(p + "swiglu_clamp_exp", 9, limits);
}

std::string canonical_name(const Json& names, const std::string& native) {
  if (names[native].contains("memory")) return names[native]["memory"].get<std::string>();
  std::string name = "model." + native;
  for (const auto& [from, to] : {std::pair("ffn.experts", "mlp.experts"), std::pair(".w1.", ".gate_proj."),
                                 std::pair(".w3.", ".up_proj."), std::pair(".w2.", ".down_proj.")})
    if (const size_t at = name.find(from); at != std::string::npos)
      name.replace(at, std::string_view(from).size(), to);
  return name;
}

TEST(Streams, AGgufIsTheSameModel) {
  const std::string folder = fixture("deepseek_v4");
  const Json names = must(read_json_file(folder + "/names.json"));
  struct Stack {
    Shape shape;
    uint32_t type;
    std::map<int64_t, std::string> members;
  };
  std::map<std::string, Stack> stacks;
  for (const StoredTensor& t : must(read_safetensors(folder + "/model.safetensors"))) {
    const auto ref = gguf_tensor_name(canonical_name(names, t.name));
    ASSERT_TRUE(ref) << t.name;
    std::string bytes(reinterpret_cast<const char*>(t.data), t.bytes);
    const bool whole = t.dtype == DType::kI64;
    if (whole) {
      std::string narrow;
      for (size_t i = 0; i < t.bytes; i += 8) narrow += bytes.substr(i, 4);
      bytes = narrow;
    }
    Stack& stack = stacks[ref->name];
    stack.shape = t.shape;
    stack.type = whole ? 26 : 0;
    EXPECT_TRUE(stack.members.emplace(ref->stack_index, std::move(bytes)).second) << t.name;
  }
  GgufBuilder b = gguf_fields(must(read_json_file(folder + "/config.json")));
  for (const auto& [name, stack] : stacks) {
    std::vector<uint64_t> dims(stack.shape.rbegin(), stack.shape.rend());
    if (stack.members.size() > 1) dims.push_back(stack.members.size());
    b.info(name, dims, stack.type, b.data.size());
    for (const auto& [index, bytes] : stack.members) b.data += bytes;
    b.data.resize((b.data.size() + 31) / 32 * 32);
  }
  TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomic(directory / "model.gguf", b.file()).ok());
  Exact gguf(directory / "model.gguf"), native(folder);
  EXPECT_TRUE(gguf.built.unused_tensors.empty()) << gguf.built.unused_tensors.front();
  const auto ids = some_ids(60, native.built.graph.vocab);
  const auto expected = native.logits(ids), found = gguf.logits(ids);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-4) << i;
}

TEST(Streams, GoingBackAndOnFromASnapshotIsExact) {
  for (const char* folder : {"deepseek_v4", "deepseek_v4-native"}) {
    Exact model(fixture(folder));
    KvCache& cache = model.executor->cache();
    const auto ids = some_ids(300, model.built.graph.vocab);
    const auto expected = model.logits(ids);
    const auto rows_from = [&](int64_t row) {
      return std::vector<float>(expected.begin() + row * model.built.graph.vocab, expected.end());
    };
    const std::vector<int32_t> wrong(40, 1);
    for (const int64_t cut : {1, 7, 8, 63, 64, 127, 128, 129, 203, 256, 260}) {
      // A snapshot taken at `cut`, kept while the sequence goes astray.
      Sequence sequence;
      model.feed(sequence, std::span(ids).first(static_cast<size_t>(cut)));
      Sequence snapshot = cache.fork(sequence);
      model.feed(sequence, wrong);
      Sequence restored = cache.fork(snapshot);
      EXPECT_EQ(model.feed(restored, std::span(ids).subspan(static_cast<size_t>(cut))), rows_from(cut))
          << folder << " snapshot at " << cut;
      // Forty tokens that are taken back, as a draft is that was wrong.
      cache.truncate(sequence, cut);
      EXPECT_EQ(model.feed(sequence, std::span(ids).subspan(static_cast<size_t>(cut))), rows_from(cut))
          << folder << " cut back to " << cut;
      for (Sequence* s : {&sequence, &snapshot, &restored}) cache.release(*s);
    }
    for (int64_t group = 0; group < 3; ++group)
      EXPECT_EQ(cache.free_blocks(group), cache.total_blocks(group)) << folder;
  }
}

TEST(Streams, OnlyWhatWindowsNeedIsKept) {
  Exact model(fixture("deepseek_v4"));
  KvCache& cache = model.executor->cache();
  const auto ids = some_ids(2000, model.built.graph.vocab);
  Sequence sequence;
  for (size_t at = 0; at < ids.size(); at += 100) {
    model.feed(sequence, std::span(ids).subspan(at, 100));
    EXPECT_LE(cache.total_blocks(cache.group(0)) - cache.free_blocks(cache.group(0)), 5) << at;
  }
  cache.release(sequence);
}

}  // namespace
}  // namespace fettle
