// What a comparison reports besides logits: hidden states by layer and the experts that are chosen again.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace fettle
