// Caches of latents in codes of 8 bits: who gets one, what it takes, and that it keeps every promise of
// feeding.
#include "model/testing.h"

namespace fettle {
namespace {

struct Opened {
  Checkpoint checkpoint;
  Graph source;
  explicit Opened(const std::string& name)
      : checkpoint(must(Checkpoint::open(fixture(name)))), source(must(build_graph(checkpoint)).graph) {}
};

TEST(CodedCache, IsForLatentsAlone) {
  for (const std::string type : {"int8", "fp8"}) {
    PassOptions options;
    options.kv_type = type;
    PassNotes notes;
    const Opened latent("deepseek_v3"), full("qwen2-tied");
    const Graph coded = must(run_passes(latent.source, options, &notes));
    for (const CacheSpec& cache : coded.caches) EXPECT_EQ(cache.type, type);
    EXPECT_TRUE(notes.empty());
    // The codes, one scale, the rotated columns.
    const CacheSpec& first = coded.caches[0];
    EXPECT_EQ(kv_bytes_per_token(coded), static_cast<int64_t>(coded.caches.size()) *
                                             (first.v_dim + 4 + 2 * (first.k_dim - first.v_dim)));

    const Graph plain = must(run_passes(full.source, options, &notes));
    for (const CacheSpec& cache : plain.caches) EXPECT_EQ(cache.type, "bf16");
    ASSERT_EQ(notes.size(), 1U);
    EXPECT_NE(notes[0].find("stay bf16: " + type), std::string::npos) << notes[0];
  }
}

class CodedCacheOf : public testing::TestWithParam<const char*> {
 protected:
  CodedCacheOf() : model_("deepseek_v3"), pool_(1) {}

  std::vector<float> logits(const std::string& type, int64_t grid, int threads, int64_t chunk) {
    PassOptions options;
    options.kv_type = type;
    options.expand_grid = grid;
    const Graph graph = must(run_passes(model_.source, options, nullptr));
    Plan plan;
    plan.expand_grid = grid;
    auto executor = must(Executor::create(
        {graph, plan, std::make_shared<TransientStore>(graph, model_.checkpoint, false, pool_)},
        {.threads = threads, .isa = detect_isa(), .max_tokens = 256, .max_logit_rows = 256}));
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < 150; ++i)
      ids.push_back(static_cast<int32_t>((i * i * 31 + i * 7 + 3) % graph.vocab));
    Sequence sequence;
    std::vector<float> all;
    must(executor->feed(sequence, ids, chunk, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    }));
    return all;
  }

  Opened model_;
  ThreadPool pool_;
};

TEST_P(CodedCacheOf, FeedingDoesNotMatter) {
  for (const int64_t grid : {0, 32}) {
    const auto expected = logits(GetParam(), grid, 1, 256);
    EXPECT_NE(expected, logits("bf16", grid, 1, 256));
    for (const int64_t chunk : {1, 7, 100})
      EXPECT_EQ(expected, logits(GetParam(), grid, 2, chunk)) << "grid " << grid << " chunk " << chunk;
  }
}

TEST_P(CodedCacheOf, StaysNearBf16) {
  const auto plain = logits("bf16", 0, 2, 256), coded = logits(GetParam(), 0, 2, 256);
  // What such a cache costs an attention alone (attention_test), once a layer.
  const double one = GetParam() == std::string("int8") ? 0.02 : 0.06;
  EXPECT_LT(median_row_error(coded, plain, model_.source.vocab),
            one * static_cast<double>(model_.source.layers));
}

INSTANTIATE_TEST_SUITE_P(Types, CodedCacheOf, testing::Values("int8", "fp8"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace fettle
