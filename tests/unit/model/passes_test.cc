// Passes: the interpreter gives the same logits before and after, and the text of every stage is frozen.
#include <fstream>

#include "base/file.h"
#include "model/testing.h"

namespace fettle {
namespace {

struct Opened {
  Checkpoint checkpoint;
  Graph graph;
  explicit Opened(const std::string& path)
      : checkpoint(must(Checkpoint::open(path))), graph(must(build_graph(checkpoint)).graph) {}

  std::vector<float> logits(const Graph& g, const std::vector<int32_t>& ids) const {
    const Evaluator evaluator(checkpoint);
    return must(interpret(
                    g,
                    [&](const std::string& name, int64_t member) {
                      return evaluator.decode(*g.find_weight(name)->expr, member);
                    },
                    ids))
        .back();
  }
};

const std::vector<int32_t> kIds = {3, 17, 99, 4, 42, 8, 101, 5};

// Goldens are updated by FETTLE_UPDATE_GOLDEN=1; the difference is then for the reader of the commit to
// judge.
void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(FETTLE_TEST_DATA) + "/golden/" + name;
  if (std::getenv("FETTLE_UPDATE_GOLDEN")) {
    std::ofstream(path) << text;
    return;
  }
  const auto golden = read_file(path);
  ASSERT_TRUE(golden.ok()) << golden.error().message();
  EXPECT_EQ(text, *golden) << "if this is meant, run again with FETTLE_UPDATE_GOLDEN=1";
}

class PassesOn : public testing::TestWithParam<const char*> {};

TEST_P(PassesOn, StructureChangesNothing) {
  const Opened model(fixture(GetParam()));
  const auto before = model.logits(model.graph, kIds);
  PassOptions options;
  options.disabled = {"choose-schemes", "choose-cache"};
  options.after = [&](std::string_view pass, const Graph& after) {
    EXPECT_EQ(before, model.logits(after, kIds)) << pass;
  };
  PassNotes notes;
  must(run_passes(model.graph, options, &notes));
}

TEST_P(PassesOn, RoundingStaysCloseAndIsTheSameFusedOrNot) {
  const Opened model(fixture(GetParam()));
  PassOptions options;
  for (const WeightGroup& group : weight_groups(model.graph))
    for (const std::string& weight : group.weights) options.schemes[weight] = "i8c";
  PassOptions unfused = options;
  unfused.disabled = {"fuse-rounding", "merge-linears"};
  PassNotes notes;
  const auto fused_logits = model.logits(must(run_passes(model.graph, options, &notes)), kIds);
  EXPECT_EQ(fused_logits, model.logits(must(run_passes(model.graph, unfused, &notes)), kIds));
  const auto source = model.logits(model.graph, kIds);
  double error = 0, norm = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    error += (source[i] - fused_logits[i]) * (source[i] - fused_logits[i]);
    norm += source[i] * source[i];
  }
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / norm), 0.1);
}

TEST_P(PassesOn, TheExecutorAgreesWithTheInterpreterOnTheAdaptedGraph) {
  const Opened model(fixture(GetParam()));
  for (const char* scheme : {"i8c", "i4g32", "q8_0"}) {
    PassOptions options;
    options.kv_type = "f32";
    for (const WeightGroup& group : weight_groups(model.graph))
      for (const std::string& weight : group.weights) options.schemes[weight] = scheme;
    PassNotes notes;
    const Graph adapted = must(run_passes(model.graph, options, &notes));
    const auto expected = model.logits(adapted, kIds);
    ThreadPool pool(1);
    auto store = std::make_shared<TransientStore>(adapted, model.checkpoint, false, pool);
    auto executor = must(Executor::create(
        {adapted, Plan{}, store},
        {.threads = 2, .isa = detect_isa(), .max_tokens = 16, .max_logit_rows = 16, .cache_tokens = 64}));
    Sequence sequence;
    std::vector<float> found;
    const auto fed = executor->feed(sequence, kIds, 3, [&](int64_t, std::span<const float> rows, int64_t) {
      found.insert(found.end(), rows.begin(), rows.end());
    });
    ASSERT_TRUE(fed.ok());
    double error = 0, norm = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      error += (double(expected[i]) - found[i]) * (double(expected[i]) - found[i]);
      norm += double(expected[i]) * expected[i];
    }
    // Where a value sits on the border of two codes, the interpreter's double sums may round it the other
    // way.
    EXPECT_LT(std::sqrt(error / norm), 5e-3) << scheme;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, PassesOn,
                         testing::Values("llama-gqa-llama3rope", "qwen2-tied", "qwen3-dense", "qwen3_moe"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(PassGoldens, EveryStageOfATiedModel) {
  const Opened model(fixture("qwen2-tied"));
  expect_golden("qwen2-tied.source.fir", print_graph(model.graph));
  PassOptions options;
  for (const WeightGroup& group : weight_groups(model.graph))
    for (const std::string& weight : group.weights)
      options.schemes[weight] = weight.find("mlp") == std::string::npos ? "i8c" : "i4g32";
  options.after = [](std::string_view pass, const Graph& graph) {
    expect_golden("qwen2-tied." + std::string(pass) + ".fir", print_graph(graph));
  };
  PassNotes notes;
  const Graph adapted = must(run_passes(model.graph, options, &notes));
  EXPECT_EQ(print_graph(must(parse_graph(print_graph(adapted), "again"))), print_graph(adapted));
}

TEST(Passes, UnknownNamesAreRefused) {
  const Opened model(fixture("qwen3-dense"));
  PassOptions options;
  options.disabled = {"no-such-pass"};
  const auto result = run_passes(model.graph, options, nullptr);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kUsage);
  EXPECT_NE(result.error().message().find("merge-linears"), std::string::npos);
}

}  // namespace
}  // namespace fettle
