// The roundings of the makers' own kernels: of activations, against results made from their specification;
// of latents and index keys.
#include <algorithm>

#include "model/testing.h"

namespace fettle {
namespace {

struct Numbers {
  Checkpoint checkpoint;
  Graph graph;
  ThreadPool pool{2};
  std::unique_ptr<Executor> executor;

  // Exact but for the inputs of e4m3 weights.
  Numbers(const std::string& folder, std::optional<Form> inputs, bool simulate)
      : checkpoint(must(Checkpoint::open(fixture(folder)))),
        graph(must(build_graph(checkpoint, {.simulate_rounding = simulate})).graph) {
    PassOptions options;
    options.small_float_inputs = inputs;
    options.exact = true;
    for (const Pass& pass : all_passes())
      if (pass.name != "choose-schemes") options.disabled.insert(std::string(pass.name));
    graph = must(run_passes(graph, options, nullptr));
    executor = must(Executor::create(
        {graph, Plan{}, std::make_shared<TransientStore>(graph, checkpoint, true, pool)},
        {.threads = 2, .isa = detect_isa(), .max_tokens = 320, .max_logit_rows = 320, .cache_tokens = 512}));
  }

  std::vector<float> logits(const std::vector<int32_t>& ids, int64_t chunk = 320) {
    Sequence sequence;
    std::vector<float> all;
    must(executor->feed(sequence, ids, chunk, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    }));
    executor->cache().release(sequence);
    return all;
  }
};

TEST(Activations, AreRoundedAsTheReferenceRoundsThem) {
  const Reference reference(fixture("deepseek_v3-fp8") + "/reference_act.safetensors");
  for (const auto& [name, form] :
       {std::pair("fp32", Form::kF8G128), std::pair("ue8m0", Form::kF8G128Ue8m0)}) {
    Numbers model("deepseek_v3-fp8", form, false);
    for (const char* text : {"a1", "a2", "a24"}) {
      // Our keys and values are folded into queries and outputs. Where they are linears of their own, their
      // inputs are rounded too, which is seen.
      const std::string folded = fmt::format("cases_act_{}_absorbed/{}/", name, text),
                        apart = fmt::format("cases_act_{}/{}/", name, text);
      const auto ids = reference.ids(folded + "input_ids");
      const auto found = model.logits(ids);
      EXPECT_LT(relative_l2(found, reference.floats(folded + "logits")), 1e-5) << folded;
      EXPECT_EQ(found, model.logits(ids, 1)) << folded;
      if (reference.ids(apart + "input_ids") == ids) {
        EXPECT_GT(relative_l2(found, reference.floats(apart + "logits")), 1e-3) << apart;
      }
    }
  }
}

TEST(Activations, OtherInputsStayAsTheyAre) {
  Numbers plain("deepseek_v3-fp8", std::nullopt, false), rounded("deepseek_v3-fp8", Form::kF8G128, false);
  int64_t quantised = 0;
  for (const Node& node : plain.graph.nodes) EXPECT_NE(node.op, Op::kQuantise);
  for (const Node& node : rounded.graph.nodes) {
    quantised += node.op == Op::kQuantise;
    if (node.op == Op::kLatentAttention || node.op == Op::kExperts) {
      EXPECT_EQ(node.text("inner"), node.op == Op::kExperts ? "f8g128" : "f32");
    }
    if (node.op != Op::kLinear) continue;
    const Scheme scheme = rounded.graph.find_weight(node.weights[0].weight)->expr->scheme;
    const Form form = rounded.graph.nodes[static_cast<size_t>(node.inputs[0])].type.form;
    EXPECT_EQ(form, scheme == Scheme::kF8B128 ? Form::kF8G128 : Form::kF32) << node.weights[0].weight;
  }
  EXPECT_GT(quantised, 0);
}

TEST(Simulation, OfAnArchitectureTrainedToBearIt) {
  const Reference reference(fixture("deepseek_v32") + "/reference.safetensors");
  const auto ids = reference.ids("cases/t40/input_ids");
  Numbers model("deepseek_v32", std::nullopt, true);
  std::map<std::string, int64_t> kinds;
  for (const Node& node : model.graph.nodes)
    if (node.op == Op::kSimulate) ++kinds[node.text("kind")];
  const int64_t layers = model.graph.layers;
  EXPECT_EQ(kinds,
            (std::map<std::string, int64_t>{{"e4m3_g128", layers}, {"hadamard_e4m3_g128", 2 * layers}}));

  const auto found = model.logits(ids);
  EXPECT_EQ(found, model.logits(ids, 3));
  EXPECT_GT(relative_l2(found, reference.floats("cases/t40/logits")), 1e-3);
  const Evaluator evaluator(model.checkpoint);
  const auto values = must(interpret(
      model.graph,
      [&](const std::string& name, int64_t member) {
        return evaluator.decode(*model.graph.find_weight(name)->expr, member);
      },
      ids));
  // The first tokens: later ones may see a number on the edge of two codes rounded the other way.
  const size_t few = 4 * static_cast<size_t>(model.graph.vocab);
  EXPECT_LT(
      relative_l2({found.begin(), found.begin() + few}, {values.back().begin(), values.back().begin() + few}),
      1e-5);
}

// Of released storage, with every rounding on, against numbers confirmed with the makers' own code. A code on
// an edge may round the other way, and spoils the rows that see it.
TEST(Simulation, WithRoundedActivationsIsTheMakersModel) {
  const Reference reference(fixture("deepseek_v4-native") + "/reference.safetensors");
  Numbers model("deepseek_v4-native", Form::kF8G128Ue8m0, true);
  const auto vocab = static_cast<size_t>(model.graph.vocab);
  for (const char* name : {"t1", "t5", "t130", "t290"}) {
    const std::string key = std::string("cases_sim/") + name + "/";
    const auto ids = reference.ids(fmt::format("cases/{}/input_ids", name));
    const auto found = model.logits(ids), expected = reference.floats(key + "logits");
    std::vector<double> errors;
    for (size_t row = 0; row * vocab < found.size(); ++row)
      errors.push_back(relative_l2({found.begin() + row * vocab, found.begin() + (row + 1) * vocab},
                                   {expected.begin() + row * vocab, expected.begin() + (row + 1) * vocab}));
    std::sort(errors.begin(), errors.end());
    EXPECT_LT(errors[errors.size() / 2], 2e-6) << key;
    EXPECT_LT(errors[errors.size() * 9 / 10], 1e-3) << key;
    EXPECT_LT(errors.back(), 5e-2) << key;
    EXPECT_EQ(found, model.logits(ids, 1)) << key;
  }
}

TEST(Simulation, OfOthersIsRefused) {
  const Checkpoint checkpoint = must(Checkpoint::open(fixture("deepseek_v3")));
  const auto built = build_graph(checkpoint, {.simulate_rounding = true});
  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().message().find("was not trained with a rounding"), std::string::npos);
}

}  // namespace
}  // namespace fettle
