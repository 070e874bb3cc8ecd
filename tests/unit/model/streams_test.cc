// Models of several residual streams with windows, compressed entries and choices among them: what is chosen,
// the names that files use, and going back.
#include <cstring>

#include "base/temporary_directory.h"
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
