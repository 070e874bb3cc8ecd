// A row's logits depend only on its own sequence: not on company in the batch, chunks, threads or which cache
// blocks it got.
#include "model/testing.h"

namespace fettle {
namespace {

struct Setup {
  const char* folder;
  const char* scheme;  // "" keeps the source's
};

class Batch : public testing::TestWithParam<Setup> {
 protected:
  Batch()
      : checkpoint_(must(Checkpoint::open(fixture(GetParam().folder)))),
        source_(must(build_graph(checkpoint_)).graph),
        pool_(1) {
    PassOptions options;
    if (*GetParam().scheme)
      for (const WeightGroup& group : weight_groups(source_))
        for (const std::string& weight : group.weights) options.schemes[weight] = GetParam().scheme;
    graph_ = must(run_passes(source_, options, nullptr));
    for (int64_t n : {1, 7, 64, 65, 100}) {
      std::vector<int32_t>& ids = sequences_.emplace_back();
      for (int64_t i = 0; i < n; ++i)
        ids.push_back(static_cast<int32_t>((i * i * 31 + n * 7 + i) % graph_.vocab));
    }
  }

  std::unique_ptr<Executor> executor(int threads) {
    auto store = std::make_shared<TransientStore>(graph_, checkpoint_, false, pool_);
    return must(Executor::create({graph_, Plan{}, store}, {.threads = threads,
                                                           .isa = detect_isa(),
                                                           .max_tokens = 512,
                                                           .max_logit_rows = 512,
                                                           .cache_tokens = 2048}));
  }

  std::vector<float> alone(Executor& executor, const std::vector<int32_t>& ids, int64_t chunk) {
    Sequence sequence;
    std::vector<float> all;
    const auto fed = executor.feed(sequence, ids, chunk, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    });
    EXPECT_TRUE(fed.ok());
    executor.cache().release(sequence);
    return all;
  }

  Checkpoint checkpoint_;
  Graph source_, graph_;
  ThreadPool pool_;
  std::vector<std::vector<int32_t>> sequences_;
};

TEST_P(Batch, CompanyDoesNotMatter) {
  for (const int threads : {1, 2, 3}) {
    auto exec = executor(threads);
    std::vector<std::vector<float>> expected;
    for (const auto& ids : sequences_) expected.push_back(alone(*exec, ids, 512));
    std::vector<Sequence> states(sequences_.size());
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < sequences_.size(); ++i)
      inputs.push_back({&states[i], sequences_[i], Logits::kAll});
    const auto together = must(exec->forward(inputs));
    std::vector<float> joined;
    for (const auto& rows : expected) joined.insert(joined.end(), rows.begin(), rows.end());
    ASSERT_EQ(together.size(), joined.size());
    EXPECT_TRUE(std::equal(together.begin(), together.end(), joined.begin())) << threads << " threads";

    // Then a step of decoding for some, of prefill for others, in blocks that lie between each other's.
    const std::vector<int32_t> one = {5}, nine = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const SequenceInput mixed[] = {{&states[4], one, Logits::kLast},
                                   {&states[1], nine, Logits::kLast},
                                   {&states[2], one, Logits::kLast}};
    const auto rows = must(exec->forward(mixed));
    const std::vector<float> kept(rows.begin(), rows.end());
    int64_t row = 0;
    for (const auto& [index, more] : {std::pair(4, one), std::pair(1, nine), std::pair(2, one)}) {
      std::vector<int32_t> whole = sequences_[static_cast<size_t>(index)];
      whole.insert(whole.end(), more.begin(), more.end());
      const auto single = alone(*exec, whole, 512);
      EXPECT_TRUE(std::equal(single.end() - graph_.vocab, single.end(), kept.begin() + row * graph_.vocab))
          << "sequence " << index;
      ++row;
    }
    for (Sequence& s : states) exec->cache().release(s);
    EXPECT_EQ(exec->cache().free_blocks(), exec->cache().total_blocks());
  }
}

TEST_P(Batch, ChunksDoNotMatter) {
  auto exec = executor(2);
  for (const auto& ids : sequences_) {
    const auto whole = alone(*exec, ids, 512);
    for (const int64_t chunk : {1, 5, 16, 63})
      EXPECT_EQ(whole, alone(*exec, ids, chunk)) << ids.size() << " tokens in chunks of " << chunk;
  }
}

TEST_P(Batch, RollingBackForgets) {
  auto exec = executor(2);
  const auto& ids = sequences_[4];
  const auto expected = alone(*exec, ids, 512);
  Sequence sequence;
  must(exec->feed(sequence, std::span(ids).first(80), 512));
  must(exec->feed(sequence, std::vector<int32_t>{9, 9, 9, 9, 9}, 512));
  exec->cache().truncate(sequence, 80);
  const auto last = must(exec->feed(sequence, std::span(ids).subspan(80), 512));
  EXPECT_TRUE(std::equal(last.begin(), last.end(), expected.end() - graph_.vocab));
}

TEST_P(Batch, AFullCacheIsAnErrorThatTakesNothing) {
  auto store = std::make_shared<TransientStore>(graph_, checkpoint_, false, pool_);
  auto exec = must(Executor::create(
      {graph_, Plan{}, store},
      {.threads = 1, .isa = detect_isa(), .max_tokens = 512, .max_logit_rows = 1, .cache_tokens = 64}));
  Sequence sequence;
  const SequenceInput input{&sequence, sequences_[4], Logits::kLast};
  const auto result = exec->forward({&input, 1});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kResource);
  EXPECT_EQ(exec->cache().free_blocks(), exec->cache().total_blocks());
  const std::vector<int32_t> bad = {static_cast<int32_t>(graph_.vocab)};
  const SequenceInput outside{&sequence, bad, Logits::kLast};
  EXPECT_NE(exec->forward({&outside, 1}).error().message().find("outside the model's vocabulary"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Models, Batch,
                         testing::Values(Setup{"llama-gqa-llama3rope", "i8c"}, Setup{"qwen2-tied", "i4g32"},
                                         Setup{"qwen3-dense", "bf16"}, Setup{"qwen3_moe", "q8_0"},
                                         Setup{"qwen2-untied-sharded", "i4g32z"},
                                         Setup{"deepseek_v2-lite", ""}, Setup{"deepseek_v3", "i8c"},
                                         Setup{"deepseek_v32", ""}, Setup{"deepseek_v4", "i8c"},
                                         Setup{"deepseek_v4-native", ""}),
                         [](const auto& info) {
                           std::string name = std::string(info.param.folder) + "_" + info.param.scheme;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace fettle
