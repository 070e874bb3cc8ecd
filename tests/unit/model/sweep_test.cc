// Streaming: weights that come and go layer by layer, and text that sweeps through layer by layer, give the
// bits of an executor that holds everything.
#include "runtime/sweep.h"

#include <set>

#include "model/testing.h"

namespace fettle {
namespace {

class Streaming : public testing::TestWithParam<const char*> {
 protected:
  Streaming()
      : checkpoint_(must(Checkpoint::open(fixture(GetParam())))),
        graph_(must(run_passes(must(build_graph(checkpoint_)).graph, {}, nullptr))),
        pool_(2) {
    for (int64_t n : {3, 100, 16, 17, 1}) {
      std::vector<int32_t>& ids = sequences_.emplace_back();
      for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * 37 + n) % graph_.vocab));
    }
  }
  std::unique_ptr<Executor> executor(bool stream, uint64_t limit = UINT64_MAX) {
    auto store = std::make_shared<TransientStore>(graph_, checkpoint_, false, pool_,
                                                  WeightMemory(limit, testing::TempDir()));
    return must(Executor::create({graph_, Plan{}, store}, {.threads = 2,
                                                           .isa = detect_isa(),
                                                           .max_tokens = 16,
                                                           .max_logit_rows = 16,
                                                           .cache_tokens = 256,
                                                           .stream = stream}));
  }
  std::vector<float> logits(Executor& executor, const std::vector<int32_t>& ids) {
    Sequence sequence;
    std::vector<float> all;
    must(executor.feed(sequence, ids, 16, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    }));
    executor.cache().release(sequence);
    return all;
  }

  Checkpoint checkpoint_;
  Graph graph_;
  ThreadPool pool_;
  std::vector<std::vector<int32_t>> sequences_;
};

TEST_P(Streaming, StepsGiveTheSameBits) {
  const auto whole = executor(false), streamed = executor(true), spilled = executor(true, 0);
  for (const auto& ids : sequences_) {
    const auto expected = logits(*whole, ids);
    EXPECT_EQ(logits(*streamed, ids), expected);
    EXPECT_EQ(logits(*spilled, ids), expected);
  }
  EXPECT_EQ(streamed->weight_bytes(), whole->weight_bytes());
}

TEST_P(Streaming, SweepsGiveTheSameBits) {
  const auto whole = executor(false), streamed = executor(true);
  for (Executor* swept : {whole.get(), streamed.get()})
    for (const std::string& directory : {std::string(), testing::TempDir()}) {
      const int64_t free_blocks = swept->cache().free_blocks();
      {
        Sweep sweep = must(Sweep::create(*swept, sequences_));
        const ResidualStream stream = must(ResidualStream::create(sweep, directory));
        std::vector<std::vector<float>> found(sequences_.size());
        for (size_t part = 0; part < sweep.parts(); ++part) {
          ASSERT_TRUE(sweep.open(part).ok());
          for (const Chunk& chunk : sweep.chunks()) {
            const auto rows = sweep.run(chunk, stream.at(chunk));
            EXPECT_EQ(rows.empty(), part + 1 < sweep.parts());
            found[chunk.sequence].insert(found[chunk.sequence].end(), rows.begin(), rows.end());
          }
        }
        sweep.close();
        for (size_t s = 0; s < sequences_.size(); ++s)
          EXPECT_EQ(found[s], logits(*whole, sequences_[s])) << "sequence " << s;
      }
      EXPECT_EQ(swept->cache().free_blocks(), free_blocks);
    }
}

// A store that says which weights are held at the moment.
class WatchedStore final : public WeightStore {
 public:
  explicit WatchedStore(std::shared_ptr<WeightStore> inner) : inner_(std::move(inner)) {}
  Result<StoredWeight> get(const std::string& name) override {
    TRY(StoredWeight stored, inner_->get(name));
    seen_[name] = stored.owner;
    size_t held = 0;
    for (const auto& [other, owner] : seen_)
      if (other.starts_with("layers.")) held += !owner.expired();
    most_held = std::max(most_held, held);
    return stored;
  }
  size_t most_held = 0;

 private:
  std::shared_ptr<WeightStore> inner_;
  std::map<std::string, std::weak_ptr<const void>> seen_;
};

TEST_P(Streaming, OneLayerIsHeldAtATime) {
  std::map<int64_t, std::set<std::string>> matrices;
  for (const Node& node : graph_.nodes)
    for (const WeightRef& ref : node.weights)
      if (node.layer >= 0) {
        matrices[node.layer].insert(ref.weight);
        if (!ref.bias.empty()) matrices[node.layer].insert(ref.bias);
      }
  size_t most = 0;
  for (const auto& [layer, names] : matrices) most = std::max(most, names.size());
  auto store =
      std::make_shared<WatchedStore>(std::make_shared<TransientStore>(graph_, checkpoint_, false, pool_));
  auto exec = must(Executor::create({graph_, Plan{}, store},
                                    {.threads = 1, .isa = detect_isa(), .max_tokens = 16, .stream = true}));
  logits(*exec, sequences_[1]);
  EXPECT_GT(store->most_held, 0U);
  EXPECT_LE(store->most_held, most);
}

INSTANTIATE_TEST_SUITE_P(Models, Streaming,
                         testing::Values("deepseek_v3", "deepseek_v4", "qwen2-tied", "qwen3_moe",
                                         "llama-gqa-llama3rope"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace fettle
