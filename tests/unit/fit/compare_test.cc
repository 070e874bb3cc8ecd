// What a comparison reports besides logits: hidden states by layer and the experts that are chosen again; and
// that a source remembered gives what a source run gives.
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "fit/open_model.h"
#include "quality/evaluate.h"

namespace fettle {
namespace {

OpenedModel open_fixture(bool exact, const std::string& scheme) {
  OpenOptions options{.exact = exact, .threads = 2, .max_tokens = 32, .max_logit_rows = 32};
  const std::string path = FETTLE_TEST_DATA "/fixtures/qwen3_moe";
  const auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.ok());
  const auto built = build_graph(*checkpoint);
  EXPECT_TRUE(built.ok());
  if (!scheme.empty())
    for (const WeightGroup& group : weight_groups(built->graph))
      for (const std::string& weight : group.weights) options.passes.schemes[weight] = scheme;
  auto opened = open_model(path, options);
  EXPECT_TRUE(opened.ok()) << opened.error().message();
  return std::move(opened).value();
}

TEST(Compare, CountsTheExpertsChosenAgain) {
  std::vector<TokenWindow> windows(2);
  for (int32_t i = 0; i < 90; ++i) windows[static_cast<size_t>(i % 2)].push_back(i * 13 % 97);
  OpenedModel source = open_fixture(true, ""), same = open_fixture(true, ""),
              rough = open_fixture(false, "i4g32");
  const auto equal = compare(*source.executor, *same.executor, windows, {.label = ""});
  ASSERT_TRUE(equal.ok()) << equal.error().message();
  EXPECT_EQ(equal->router_overlap, 1.0);
  for (const LayerError& layer : equal->by_layer) EXPECT_EQ(layer.relative_error, 0);
  const auto drifted = compare(*source.executor, *rough.executor, windows, {.label = ""});
  ASSERT_TRUE(drifted.ok()) << drifted.error().message();
  EXPECT_GT(drifted->router_overlap, 0.5);
  EXPECT_LT(drifted->router_overlap, 1.0);
  ASSERT_EQ(drifted->by_layer.size(), static_cast<size_t>(source.executor->graph().layers));
  for (const LayerError& layer : drifted->by_layer) EXPECT_GT(layer.relative_error, 1e-3);
}

// An empty folder of its own for each test.
std::string cache_folder() {
  std::string path = testing::TempDir() + "fettle-source-cache-XXXXXX";
  EXPECT_NE(mkdtemp(path.data()), nullptr);
  return path;
}

struct Remembered : testing::Test {
  std::string folder = cache_folder();
  ~Remembered() override { EXPECT_TRUE(remove_tree(folder).ok()); }

  SourceCache cache(const std::string& source = "source", uint64_t bound = SourceCache::kBound) const {
    return {folder, source, detect_isa(), bound};
  }
  std::vector<std::string> entries() const { return *list_directory(folder); }
};

TEST_F(Remembered, ASourceReplayedEqualsASourceRun) {
  std::vector<TokenWindow> windows(7);
  for (int32_t i = 0; i < 350; ++i) windows[static_cast<size_t>(i % 7)].push_back(i * 13 % 97);
  OpenedModel source = open_fixture(true, ""), rough = open_fixture(false, "i4g32");
  const auto with = [&](SourceTrace trace) {
    auto found = compare(*source.executor, *rough.executor, windows,
                         {.label = "", .layer_windows = 3, .trace = &trace});
    EXPECT_TRUE(found.ok()) << found.error().message();
    return std::move(found).value();
  };
  const Comparison run = with(SourceTrace());
  const Comparison recorded = with(cache().trace("windows"));
  ASSERT_EQ(entries().size(), 1u);
  SourceTrace kept = cache().trace("windows");
  ASSERT_TRUE(kept.replays());
  const Comparison replayed = with(std::move(kept));
  for (const Comparison* other : {&recorded, &replayed}) {
    ASSERT_EQ(run.scores.size(), other->scores.size());
    for (size_t w = 0; w < run.scores.size(); ++w)
      for (size_t i = 0; i < run.scores[w].size(); ++i) {
        EXPECT_EQ(run.scores[w][i].kld, other->scores[w][i].kld);
        EXPECT_EQ(run.scores[w][i].same_top1, other->scores[w][i].same_top1);
      }
    ASSERT_EQ(run.by_layer.size(), other->by_layer.size());
    for (size_t l = 0; l < run.by_layer.size(); ++l)
      EXPECT_EQ(run.by_layer[l].relative_error, other->by_layer[l].relative_error);
    EXPECT_EQ(run.router_overlap, other->router_overlap);
    EXPECT_GT(run.router_overlap, 0.5);
  }
}

TEST_F(Remembered, AnotherSourceOrTextIsAnotherEntry) {
  cache().keep("a", Json{1, 2});
  EXPECT_EQ(cache().find("a"), (Json{1, 2}));
  EXPECT_FALSE(cache().find("b"));
  EXPECT_FALSE(cache("other").find("a"));
  EXPECT_FALSE(SourceCache().find("a"));
}

TEST_F(Remembered, DamageIsNoticed) {
  const float rows[4] = {1, 2, 3, 4};
  SourceTrace trace = cache().trace("t");
  trace.record(rows, 4);
  trace.finish();
  cache().keep("j", Json{{"x", 1}});
  for (const std::string& name : entries()) {
    std::fstream file(join_path(folder, name), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2);
    file.put('#');
  }
  EXPECT_FALSE(cache().find("j"));
  EXPECT_FALSE(cache().trace("t").replays());
}

TEST_F(Remembered, WhatIsNotFinishedLeavesNothing) {
  {
    SourceTrace trace = cache().trace("t");
    const float row = 1;
    trace.record(&row, 1);
  }
  EXPECT_TRUE(entries().empty());
}

TEST_F(Remembered, ReplayStopsAtTheEnd) {
  const float rows[4] = {1, 2, 3, 4};
  SourceTrace trace = cache().trace("t");
  trace.record(rows, 4);
  trace.finish();
  SourceTrace kept = cache().trace("t");
  const auto first = kept.replay(3);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ((*first)[2], 3);
  EXPECT_FALSE(kept.replay(2).ok());
}

TEST_F(Remembered, TheBoundIsKept) {
  const auto small = [&] { return cache("source", 4096); };
  const std::vector<float> rows(256);  // 1,088 bytes with the digest
  for (int i = 0; i < 8; ++i) {
    SourceTrace trace = small().trace(fmt::format("t{}", i));
    trace.record(rows.data(), rows.size());
    trace.finish();
  }
  EXPECT_EQ(entries().size(), 3u);
  EXPECT_TRUE(small().trace("t7").replays());
  EXPECT_FALSE(small().trace("t0").replays());
  const std::vector<float> large(600);  // more than half of the bound
  SourceTrace trace = small().trace("large");
  trace.record(large.data(), large.size());
  trace.finish();
  EXPECT_FALSE(small().trace("large").replays());
}

TEST_F(Remembered, APlaceThatCannotBeWrittenIsNoTrouble) {
  const SourceCache nowhere("/proc/nowhere", "source", detect_isa());
  nowhere.keep("a", Json{1});
  EXPECT_FALSE(nowhere.find("a"));
  SourceTrace trace = nowhere.trace("t");
  const float row = 1;
  trace.record(&row, 1);
  trace.finish();
  EXPECT_FALSE(trace.replays());
}

TEST_F(Remembered, ManyMayWriteAtOnce) {
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        cache("source", 1 << 16).keep(fmt::format("{}", i), Json{i});
        SourceTrace trace = cache("source", 1 << 16).trace(fmt::format("t{}", i));
        const std::vector<float> rows(64, static_cast<float>(i));
        trace.record(rows.data(), rows.size());
        trace.finish();
      }
    });
  for (std::thread& w : writers) w.join();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(cache().find(fmt::format("{}", i)), Json{i});
    SourceTrace trace = cache().trace(fmt::format("t{}", i));
    ASSERT_TRUE(trace.replays());
    EXPECT_EQ((**trace.replay(64)), static_cast<float>(i));
  }
}

}  // namespace
}  // namespace fettle
