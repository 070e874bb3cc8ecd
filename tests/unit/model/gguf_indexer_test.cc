// A GGUF of the sparse architecture, made of the safetensors fixture: names of tensors and fields.
#include <fstream>
#include <map>

#include "checkpoint/gguf_builder.h"
#include "checkpoint/tensor_names.h"
#include "model/testing.h"

namespace fettle {
namespace {

GgufBuilder fields() {
  const auto real = [](float x) { return raw(x); };
  GgufBuilder b;
  b.string("general.architecture", "deepseek32");
  const std::string p = "deepseek32.";
  for (const auto& [name, value] : std::map<std::string, uint32_t>{
           {"context_length", 256},
           {"embedding_length", 64},
           {"feed_forward_length", 96},
           {"vocab_size", 144},
           {"block_count", 3},
           {"leading_dense_block_count", 1},
           {"rope.dimension_count", 16},
           {"rope.scaling.original_context_length", 64},
           {"attention.head_count", 4},
           {"attention.head_count_kv", 4},
           {"attention.q_lora_rank", 40},
           {"attention.kv_lora_rank", 32},
           {"attention.key_length", 40},
           {"attention.value_length", 20},
           {"attention.indexer.head_count", 8},
           {"attention.indexer.key_length", 32},
           {"attention.indexer.top_k", 8},
           {"expert_feed_forward_length", 24},
           {"expert_count", 8},
           {"expert_used_count", 3},
           {"expert_shared_count", 1},
           {"expert_gating_func", 2},
           {"expert_group_count", 4},
           {"expert_group_used_count", 2},
       })
    b.u32(p + name, value);
  b.string(p + "rope.scaling.type", "yarn")
      .pair(p + "rope.scaling.factor", 6, real(4))
      .pair(p + "rope.scaling.yarn_log_multiplier", 6, real(0.1f))
      .pair(p + "rope.freq_base", 6, real(10000))
      .pair(p + "attention.layer_norm_rms_epsilon", 6, real(0.001f))
      .pair(p + "expert_weights_scale", 6, real(2.5))
      .pair(p + "expert_weights_norm", 7, raw<uint8_t>(1));
  return b;
}

std::string as_gguf(const Checkpoint& checkpoint) {
  GgufBuilder b = fields();
  struct Stack {
    Shape shape;
    std::map<int64_t, std::string> members;
  };
  std::map<std::string, Stack> stacks;
  for (const StoredTensor& t : checkpoint.tensors()) {
    const auto ref = gguf_tensor_name(t.name);
    EXPECT_TRUE(ref) << t.name;
    EXPECT_EQ(t.dtype, DType::kF32) << t.name;
    Stack& stack = stacks[ref->name];
    stack.shape = t.shape;
    stack.members[ref->stack_index] = std::string(reinterpret_cast<const char*>(t.data), t.bytes);
  }
  for (const auto& [name, stack] : stacks) {
    std::vector<uint64_t> dims(stack.shape.rbegin(), stack.shape.rend());
    if (stack.members.size() > 1) dims.push_back(stack.members.size());
    b.info(name, dims, 0, b.data.size());
    for (const auto& [index, bytes] : stack.members) b.data += bytes;
    b.data.resize((b.data.size() + 31) / 32 * 32);
  }
  return b.file();
}

std::vector<float> logits(const Checkpoint& checkpoint, const std::vector<int32_t>& ids) {
  const BuiltGraph built = must(build_graph(checkpoint));
  EXPECT_TRUE(built.unused_tensors.empty()) << built.unused_tensors.front();
  ThreadPool pool(1);
  auto executor = must(Executor::create(
      {built.graph, Plan{}, std::make_shared<TransientStore>(built.graph, checkpoint, true, pool)},
      {.threads = 1, .isa = detect_isa(), .max_tokens = 64, .max_logit_rows = 64, .cache_tokens = 64}));
  Sequence sequence;
  std::vector<float> all;
  must(executor->feed(sequence, ids, 64, [&](int64_t, std::span<const float> rows, int64_t) {
    all.assign(rows.begin(), rows.end());
  }));
  return all;
}

TEST(GgufIndexer, IsTheSameModel) {
  const Checkpoint source = must(Checkpoint::open(fixture("deepseek_v32")));
  const std::string path = testing::TempDir() + "/fettle-indexer.gguf";
  std::ofstream(path, std::ios::binary) << as_gguf(source);
  const Checkpoint gguf = must(Checkpoint::open(path));
  EXPECT_EQ(must(ModelFields::of(gguf)).architecture(), "deepseek_v32");
  const auto ids = Reference(fixture("deepseek_v32") + "/reference.safetensors").ids("cases/t40/input_ids");
  const auto expected = logits(source, ids), found = logits(gguf, ids);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-4) << i;
  std::remove(path.c_str());
}

}  // namespace
}  // namespace fettle
