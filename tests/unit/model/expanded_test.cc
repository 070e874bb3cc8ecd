// Latent attention's two forms are one function, and which one a row takes depends on where its prompt lies:
// not on chunks, company or threads.
#include "model/testing.h"

namespace fettle {
namespace {

struct Setup {
  const char* model;
  bool exact;
};

class Expanded : public testing::TestWithParam<Setup> {
 protected:
  Expanded()
      : checkpoint_(must(Checkpoint::open(fixture(GetParam().model)))),
        source_(must(build_graph(checkpoint_)).graph),
        pool_(1) {}

  std::unique_ptr<Executor> executor(int64_t grid, int threads = 2, Isa isa = detect_isa()) {
    return executor(grid, threads, isa, GetParam().exact);
  }
  std::unique_ptr<Executor> executor(int64_t grid, int threads, Isa isa, bool exact) {
    PassOptions options;
    options.expand_grid = grid;
    if (exact)
      for (const Pass& pass : all_passes())
        if (pass.name != "expand-latent") options.disabled.insert(std::string(pass.name));
    graphs_.push_back(std::make_unique<Graph>(must(run_passes(source_, options, nullptr))));
    const Graph& graph = *graphs_.back();
    Plan plan;
    plan.expand_grid = grid;
    auto store = std::make_shared<TransientStore>(graph, checkpoint_, exact, pool_);
    return must(Executor::create(
        {graph, plan, store},
        {.threads = threads, .isa = isa, .max_tokens = 512, .max_logit_rows = 512, .cache_tokens = 4096}));
  }

  std::vector<int32_t> ids(int64_t n) const {
    std::vector<int32_t> out;
    for (int64_t i = 0; i < n; ++i)
      out.push_back(static_cast<int32_t>((i * i * 31 + i * 7 + 3) % source_.vocab));
    return out;
  }

  static std::vector<float> feed(Executor& executor, Sequence& sequence, std::span<const int32_t> ids,
                                 int64_t chunk) {
    std::vector<float> all;
    const auto fed = executor.feed(sequence, ids, chunk, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    });
    EXPECT_TRUE(fed.ok());
    return all;
  }
  static std::vector<float> whole(Executor& executor, std::span<const int32_t> ids, int64_t chunk = 512) {
    Sequence sequence;
    auto out = feed(executor, sequence, ids, chunk);
    executor.cache().release(sequence);
    return out;
  }

  // Rounded, both stray from the exact result; the expanded form rounds keys and values once more.
  void expect_same_function(const std::vector<float>& expanded, const std::vector<float>& absorbed,
                            std::span<const int32_t> tokens) {
    EXPECT_NE(absorbed, expanded);
    if (GetParam().exact) {
      EXPECT_LT(relative_l2(expanded, absorbed), 1e-5);
      return;
    }
    const auto exact = whole(*executor(0, 2, detect_isa(), true), tokens);
    EXPECT_LT(median_row_error(expanded, exact, source_.vocab),
              2 * median_row_error(absorbed, exact, source_.vocab));
  }

  Checkpoint checkpoint_;
  Graph source_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<Graph>> graphs_;
};

TEST_P(Expanded, IsTheAbsorbedForm) {
  const auto tokens = ids(150);
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, detect_isa()}) {
    const auto absorbed = whole(*executor(0, 2, isa), tokens),
               expanded = whole(*executor(16, 2, isa), tokens);
    SCOPED_TRACE(isa_name(isa));
    expect_same_function(expanded, absorbed, tokens);
    // Whole cells alone: the rows after the last, and all of a prompt within one, are absorbed.
    EXPECT_EQ(whole(*executor(16, 2, isa), std::span(tokens).first(15)),
              whole(*executor(0, 2, isa), std::span(tokens).first(15)));
  }
}

TEST_P(Expanded, OverSeveralSplitsToo) {
  const auto tokens = ids(2100);
  const auto absorbed = whole(*executor(0), tokens);
  auto exec = executor(64);
  const auto expanded = whole(*exec, tokens);
  expect_same_function(expanded, absorbed, tokens);
  EXPECT_EQ(expanded, whole(*exec, tokens, 300));
  EXPECT_EQ(expanded, whole(*executor(64, 3), tokens, 511));
}

class ExpandedExactly : public Expanded {};

TEST_P(ExpandedExactly, TheInterpreterAgrees) {
  const auto tokens = ids(40);
  auto exec = executor(8);
  const Evaluator evaluator(checkpoint_);
  const auto decoded = [&](const std::string& name, int64_t member) {
    return evaluator.decode(*exec->graph().find_weight(name)->expr, member);
  };
  EXPECT_LT(relative_l2(whole(*exec, tokens), must(interpret(exec->graph(), decoded, tokens)).back()), 1e-5);
}

TEST_P(Expanded, ChunksAndThreadsDoNotMatter) {
  const auto tokens = ids(150);
  const auto expected = whole(*executor(32, 1), tokens);
  for (const int threads : {1, 2, 5}) {
    auto exec = executor(32, threads);
    for (const int64_t chunk : {1, 5, 31, 64, 100, 512})
      EXPECT_EQ(expected, whole(*exec, tokens, chunk)) << threads << " threads, chunks of " << chunk;
  }
}

// A prompt that follows on a conversation: its own cells alone are expanded, whatever goes beside it.
TEST_P(Expanded, CompanyDoesNotMatter) {
  auto exec = executor(16);
  const auto tokens = ids(150), other = ids(70);
  Sequence alone;
  feed(*exec, alone, std::span(tokens).first(41), 512);
  const auto expected = feed(*exec, alone, std::span(tokens).subspan(41), 512);
  EXPECT_EQ(alone.expand_begin, 48);
  EXPECT_EQ(alone.expand_end, 144);

  Sequence mixed, neighbour;
  feed(*exec, mixed, std::span(tokens).first(41), 512);
  feed(*exec, neighbour, std::span(other).first(69), 512);
  mixed.expect_prompt(41, 109, 16);
  const SequenceInput inputs[] = {{&neighbour, std::span(other).last(1), Logits::kLast},
                                  {&mixed, std::span(tokens).subspan(41), Logits::kAll}};
  const auto rows = must(exec->forward(inputs));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), rows.begin() + source_.vocab, rows.end()));
  const std::vector<float> kept(rows.begin(), rows.begin() + source_.vocab);
  Sequence single;
  feed(*exec, single, std::span(other).first(69), 512);
  const SequenceInput one{&single, std::span(other).last(1), Logits::kLast};
  const auto decoded = must(exec->forward({&one, 1}));
  EXPECT_TRUE(std::equal(kept.begin(), kept.end(), decoded.begin(), decoded.end()));

  // What is cut off is no prompt any more.
  exec->cache().truncate(mixed, 100);
  EXPECT_EQ(mixed.expand_end, 100);
}

TEST(ExpandLatent, KeyRowsAreTheSourcesOwn) {
  const Graph source = must(build_graph(must(Checkpoint::open(fixture("deepseek_v3"))))).graph;
  PassOptions options;
  options.expand_grid = 64;
  const Graph graph = must(run_passes(source, options, nullptr));
  int attentions = 0;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kLatentAttention) continue;
    ++attentions;
    ASSERT_EQ(node.weights.size(), 3U);
    const Expr& rows = *graph.find_weight(node.weights[2].weight)->expr;
    EXPECT_EQ(rows.kind, ExprKind::kSplitHeads) << expr_text(rows);
    EXPECT_TRUE(is_carried(rows));
  }
  EXPECT_GT(attentions, 0);
  EXPECT_EQ(print_graph(must(parse_graph(print_graph(graph), "printed"))), print_graph(graph));
}

TEST(ExpandLatent, TheGridFollowsTheShape) {
  const auto grid = [](const std::string& path) {
    return choose_expand_grid(must(build_graph(must(Checkpoint::open(path)))).graph);
  };
  EXPECT_EQ(grid(fixture("qwen2-tied")), 0);
  // 512 latent, 128 and 128 of a head: 131072 to make a position's, 768 saved a pair.
  EXPECT_EQ(grid(std::string(FETTLE_TEST_DATA) + "/configs/deepseek-v3"), 128);
}

std::string setup_name(const testing::TestParamInfo<Setup>& info) {
  std::string name = std::string(info.param.model) + (info.param.exact ? "" : "_adapted");
  for (char& c : name)
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

const auto kExact = testing::Values(Setup{"deepseek_v2-lite", true}, Setup{"deepseek_v2-grouped", true},
                                    Setup{"deepseek_v3", true}, Setup{"deepseek_v3-fp8", true},
                                    Setup{"deepseek2-gguf-fused/model-f16.gguf", true},
                                    Setup{"deepseek2-gguf-split/model-f16.gguf", true});
const auto kAdapted = testing::Values(Setup{"deepseek_v3", false}, Setup{"deepseek_v3-fp8", false},
                                      Setup{"deepseek2-gguf-split/model-f16.gguf", false});

INSTANTIATE_TEST_SUITE_P(Exact, Expanded, kExact, setup_name);
INSTANTIATE_TEST_SUITE_P(Adapted, Expanded, kAdapted, setup_name);
INSTANTIATE_TEST_SUITE_P(Exact, ExpandedExactly, kExact, setup_name);

}  // namespace
}  // namespace fettle
