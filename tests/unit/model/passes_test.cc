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
                         testing::Values("llama-gqa-llama3rope", "qwen2-tied", "qwen3-dense", "qwen3_moe",
                                         "deepseek_v3", "deepseek_v2-lite"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// One way to choose schemes: a name of the frozen texts, the fixture, and the scheme of each weight ("": the
// source's).
struct Stages {
  const char *name, *path;
  std::string (*scheme_of)(const std::string& weight);
};
const Stages kStages[] = {
    {"qwen2-tied", "qwen2-tied",
     [](const std::string& weight) -> std::string {
       return weight.find("mlp") == std::string::npos ? "i8c" : "i4g32";
     }},
    {"qwen3_moe", "qwen3_moe",
     [](const std::string& weight) -> std::string {
       return weight.find("experts") == std::string::npos ? "bf16" : "i4g32z";
     }},
    {"kquant", "qwen2-gguf-kquant/model-q4_k-q6_k.gguf",
     [](const std::string&) -> std::string { return ""; }},
};

class PassGoldens : public testing::TestWithParam<Stages> {};

TEST_P(PassGoldens, EveryStage) {
  const Stages& stages = GetParam();
  const Opened model(fixture(stages.path));
  const auto frozen = [&](std::string_view stage, const std::string& text) {
    expect_golden(fmt::format("{}.{}.fir", stages.name, stage), text);
  };
  frozen("source", print_graph(model.graph));
  PassOptions options;
  for (const WeightGroup& group : weight_groups(model.graph))
    for (const std::string& weight : group.weights)
      if (const std::string scheme = stages.scheme_of(weight); !scheme.empty())
        options.schemes[weight] = scheme;
  options.after = [&](std::string_view pass, const Graph& graph) { frozen(pass, print_graph(graph)); };
  PassNotes notes;
  const Graph adapted = must(run_passes(model.graph, options, &notes));
  EXPECT_EQ(print_graph(must(parse_graph(print_graph(adapted), "again"))), print_graph(adapted));
  frozen("lay-out", layout_text(adapted.weights));
}

INSTANTIATE_TEST_SUITE_P(Models, PassGoldens, testing::ValuesIn(kStages), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// The architectures build graphs that have nothing to fold; other passes, and graphs from elsewhere, need
// not.
TEST(Fold, SaysWhatCanBeSaidShorter) {
  const auto graph_with = [](const std::string& weights, const std::string& nodes) {
    return "graph \"test\" vocab=8 hidden=8 layers=1 context=16\n" + weights + nodes;
  };
  const Graph before = must(parse_graph(
      graph_with("weight @embed = source(\"e\", bf16, [8, 8])\n"
                 "weight @b = encode(concat(slice_rows(source(\"e\", bf16, [8, 8]), 0, 8)), bf16, search)\n"
                 "weight @c = encode(source(\"c\", f32, [8, 4]), bf16, search)\n"
                 "weight @head = slice_rows(slice_rows(source(\"w\", bf16, [32, 8]), 8, 16), 4, 8)\n",
                 "%0 : f32[T, 8] = embed() w=[@embed]\n"
                 "%1 : f32[T, 8] = columns(%0) begin=0 size=8 layer=0\n"
                 "%2 : f32[T, 8] = linear(%1) w=[@b] layer=0\n"
                 "%3 : f32[T, 6] = columns(%2) begin=2 size=6 layer=0\n"
                 "%4 : f32[T, 4] = columns(%3) begin=1 size=4 layer=0\n"
                 "%5 : f32[T, 4] = columns(%2) begin=0 size=4 layer=0\n"
                 "%6 : f32[T, 4] = silu_mul(%4, %5) layer=0\n"
                 "%7 : f32[T, 8] = linear(%6) w=[@c] layer=0\n"
                 "%8 : f32[R, 8] = select_rows(%7)\n"
                 "%9 : f32[R, 8] = linear(%8) w=[@head]\n"),
      "before"));
  PassOptions options;
  options.disabled = {"choose-schemes", "merge-linears", "fuse-rounding", "choose-cache"};
  EXPECT_EQ(print_graph(must(run_passes(before, options, nullptr))),
            graph_with("weight @embed = source(\"e\", bf16, [8, 8])\n"
                       "weight @c = encode(source(\"c\", f32, [8, 4]), bf16, search)\n"
                       "weight @head = slice_rows(source(\"w\", bf16, [32, 8]), 12, 8)\n",
                       "%0 : f32[T, 8] = embed() w=[@embed]\n"
                       "%1 : f32[T, 8] = linear(%0) w=[@embed] layer=0\n"
                       "%2 : f32[T, 4] = columns(%1) begin=3 size=4 layer=0\n"
                       "%3 : f32[T, 4] = columns(%1) begin=0 size=4 layer=0\n"
                       "%4 : f32[T, 4] = silu_mul(%2, %3) layer=0\n"
                       "%5 : f32[T, 8] = linear(%4) w=[@c] layer=0\n"
                       "%6 : f32[R, 8] = select_rows(%5)\n"
                       "%7 : f32[R, 8] = linear(%6) w=[@head]\n"));
}

// The sum over the experts ends with the shared one, as adding it did: not a bit changes.
TEST(MergeSharedExperts, TheExecutorGivesTheSameBits) {
  const Opened model(fixture("deepseek_v3"));
  for (const char* scheme : {"", "i8c", "q8_0"}) {
    std::vector<std::vector<float>> logits;
    for (const bool merged : {false, true}) {
      PassOptions options;
      for (const WeightGroup& group : weight_groups(model.graph))
        for (const std::string& weight : group.weights)
          if (*scheme) options.schemes[weight] = scheme;
      if (!merged) options.disabled.insert("merge-shared-experts");
      const Graph adapted = must(run_passes(model.graph, options, nullptr));
      EXPECT_EQ(print_graph(adapted).find("append(") != std::string::npos, merged);
      EXPECT_EQ(adapted.active_parameters(), model.graph.active_parameters());
      ThreadPool pool(1);
      auto store = std::make_shared<TransientStore>(adapted, model.checkpoint, false, pool);
      auto executor = must(Executor::create(
          {adapted, Plan{}, store},
          {.threads = 2, .isa = detect_isa(), .max_tokens = 16, .max_logit_rows = 16, .cache_tokens = 64}));
      Sequence sequence;
      const auto last = must(executor->feed(sequence, kIds, 3));
      logits.emplace_back(last.begin(), last.end());
    }
    EXPECT_EQ(logits[0], logits[1]) << scheme;
  }
}

TEST(MergeSharedExperts, WhatDoesNotFitIsLeftAndNamed) {
  struct Case {
    const char *model, *shared, *experts, *why;
  };
  const Case cases[] = {
      {"deepseek_v2-lite", "i8c", "i8c", "wide, an expert"},
      {"deepseek_v3", "i8c", "i4g32", "is rounded otherwise"},
      {"deepseek_v3", "i4g32", "i4g32z", "kept as i4g32, the experts as i4g32z"},
  };
  for (const Case& c : cases) {
    const Opened model(fixture(c.model));
    PassOptions options;
    for (const Weight& w : model.graph.weights) {
      if (w.name.find(".shared.") != std::string::npos) options.schemes[w.name] = c.shared;
      if (w.name.find(".experts.") != std::string::npos) options.schemes[w.name] = c.experts;
    }
    PassNotes notes;
    const std::string text = print_graph(must(run_passes(model.graph, options, &notes)));
    EXPECT_EQ(text.find("append("), std::string::npos) << c.model;
    EXPECT_TRUE(std::any_of(notes.begin(), notes.end(),
                            [&](const std::string& note) { return note.find(c.why) != std::string::npos; }))
        << c.model << ": " << c.why;
  }
}

TEST(MergeSharedExperts, TheGraphAfterwardsIsFrozen) {
  const Opened model(fixture("deepseek_v3"));
  PassOptions options;
  for (const WeightGroup& group : weight_groups(model.graph))
    for (const std::string& weight : group.weights) options.schemes[weight] = "i8c";
  options.after = [](std::string_view pass, const Graph& graph) {
    if (pass == "merge-shared-experts")
      expect_golden("deepseek_v3.merge-shared-experts.fir", print_graph(graph));
  };
  must(run_passes(model.graph, options, nullptr));
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
