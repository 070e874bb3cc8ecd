// The executor against the reference implementation's results, on every architecture and both file formats.
#include "model/testing.h"

namespace fettle {
namespace {

struct Case {
  std::string folder, file, prefix;
};

// A model opened for exact execution.
struct Exact {
  Checkpoint checkpoint;
  BuiltGraph built;
  ThreadPool pool;
  std::unique_ptr<Executor> executor;

  explicit Exact(const std::string& path, int threads = 1, Isa isa = detect_isa())
      : checkpoint(must(Checkpoint::open(path))), built(must(build_graph(checkpoint))), pool(2) {
    auto store = std::make_shared<TransientStore>(built.graph, checkpoint, true, pool);
    executor = must(Executor::create(
        {built.graph, Plan{}, store},
        {.threads = threads, .isa = isa, .max_tokens = 320, .max_logit_rows = 320, .cache_tokens = 1024}));
  }

  std::vector<float> logits(const std::vector<int32_t>& ids, int64_t chunk) {
    Sequence sequence;
    std::vector<float> all;
    auto fed = executor->feed(sequence, ids, chunk, [&](int64_t, std::span<const float> rows, int64_t) {
      all.insert(all.end(), rows.begin(), rows.end());
    });
    EXPECT_TRUE(fed.ok()) << (fed.ok() ? "" : fed.error().message());
    executor->cache().release(sequence);
    return all;
  }
};

void expect_same_argmax(const std::vector<float>& a, const std::vector<float>& b, int64_t vocab) {
  for (size_t row = 0; row + vocab <= a.size(); row += vocab) {
    const auto top = [&](const std::vector<float>& x) {
      return std::max_element(x.begin() + row, x.begin() + row + vocab) - x.begin();
    };
    EXPECT_EQ(top(a), top(b)) << "row " << row / vocab;
  }
}

// A short reference case that every fixture has under one of these names.
std::string short_case(const Reference& reference, const std::string& prefix) {
  for (const char* name : {"t2", "t17", "t30", "t31", "t33", "t40", "t130"})
    if (reference.has(prefix + "/" + name + "/logits")) return prefix + "/" + name;
  ADD_FAILURE() << "no short case under " << prefix;
  return "";
}

class Parity : public testing::TestWithParam<Case> {};

TEST_P(Parity, LogitsAgreeWithTheReference) {
  const Case& c = GetParam();
  const std::string folder = fixture(c.folder);
  Exact model(c.file.empty() ? folder : folder + "/" + c.file);
  const Reference reference(folder + "/reference.safetensors");
  const int64_t vocab = model.built.graph.vocab;
  int tried = 0;
  for (const char* name : {"t1",  "t2",  "t3",  "t4",  "t5",  "t8",  "t9",   "t17",  "t30",  "t31", "t33",
                           "t40", "t48", "t64", "t65", "t80", "t96", "t100", "t130", "t160", "t290"}) {
    const std::string key = c.prefix + "/" + name + "/";
    if (!reference.has(key + "logits")) continue;
    ++tried;
    const auto ids = reference.ids(key + "input_ids");
    const auto expected = reference.floats(key + "logits");
    const auto whole = model.logits(ids, 320);
    EXPECT_LT(relative_l2(whole, expected), 1e-4) << key;
    expect_same_argmax(whole, expected, vocab);
    for (const int64_t chunk : {1, 5})
      EXPECT_EQ(whole, model.logits(ids, chunk)) << key << " chunk " << chunk;
  }
  EXPECT_GE(tried, 2);
}

TEST_P(Parity, TheInterpreterAgrees) {
  const Case& c = GetParam();
  const std::string folder = fixture(c.folder);
  Exact model(c.file.empty() ? folder : folder + "/" + c.file);
  const Reference reference(folder + "/reference.safetensors");
  const auto ids = reference.ids(short_case(reference, c.prefix) + "/input_ids");
  const Evaluator evaluator(model.checkpoint);
  const auto decoded = [&](const std::string& name, int64_t member) {
    return evaluator.decode(*model.built.graph.find_weight(name)->expr, member);
  };
  const auto values = must(interpret(model.built.graph, decoded, ids));
  EXPECT_LT(relative_l2(values.back(), reference.floats(short_case(reference, c.prefix) + "/logits")), 1e-5);
}

TEST_P(Parity, ThreadsAndInstructionSetsDoNotMatter) {
  const Case& c = GetParam();
  const std::string path = c.file.empty() ? fixture(c.folder) : fixture(c.folder) + "/" + c.file;
  const Reference reference(fixture(c.folder) + "/reference.safetensors");
  const auto ids = reference.ids(short_case(reference, c.prefix) + "/input_ids");
  const auto one = Exact(path, 1).logits(ids, 256);
  EXPECT_EQ(one, Exact(path, 2).logits(ids, 256));
  EXPECT_EQ(one, Exact(path, 5).logits(ids, 256));
  EXPECT_LT(relative_l2(Exact(path, 1, Isa::kScalar).logits(ids, 256), one), 1e-6);
  EXPECT_LT(relative_l2(Exact(path, 1, Isa::kAvx2).logits(ids, 256), one), 1e-6);
}

// What a node of a layer chose, of every token.
std::vector<std::vector<float>> choices(Exact& model, const std::vector<int32_t>& ids, Op op, int64_t layer) {
  std::vector<std::vector<float>> rows;
  for (size_t i = 0; i < model.built.graph.nodes.size(); ++i) {
    const Node& node = model.built.graph.nodes[i];
    if (node.op != op || node.layer != layer) continue;
    model.executor->observe({static_cast<ValueId>(i)},
                            [&](ValueId, const float* data, int64_t count, int64_t cols, int64_t) {
                              for (int64_t r = 0; r < count; ++r) {
                                rows.emplace_back(data + r * cols, data + (r + 1) * cols);
                                std::sort(rows.back().begin(), rows.back().end());
                              }
                            });
  }
  model.logits(ids, 7);
  model.executor->observe({}, nullptr);
  return rows;
}

// The reference's rows of whole numbers, as sets; rows may be shorter than ours, which then end in -1.
void expect_chosen(const std::vector<std::vector<float>>& found, const std::vector<int32_t>& expected,
                   const std::string& what) {
  const size_t cols = expected.size() / found.size();
  for (size_t r = 0; r < found.size(); ++r) {
    std::vector<float> row(expected.begin() + static_cast<ptrdiff_t>(r * cols),
                           expected.begin() + static_cast<ptrdiff_t>((r + 1) * cols));
    row.resize(found[r].size(), -1);
    std::sort(row.begin(), row.end());
    EXPECT_EQ(found[r], row) << what << " token " << r;
  }
}

TEST(SparseAttention, ChoicesAreTheReferences) {
  Exact model(fixture("deepseek_v32"));
  const Reference reference(fixture("deepseek_v32") + "/reference.safetensors");
  for (const char* name : {"t2", "t8", "t9", "t40"}) {
    const std::string key = fmt::format("cases/{}/", name);
    const auto ids = reference.ids(key + "input_ids");
    for (int64_t layer = 0; layer < model.built.graph.layers; ++layer) {
      expect_chosen(choices(model, ids, Op::kIndex, layer),
                    reference.ids(fmt::format("{}dsa/{}/ids", key, layer)),
                    fmt::format("{} layer {}", name, layer));
      const std::string router = fmt::format("{}router/{}/ids", key, layer);
      if (reference.has(router))
        expect_chosen(choices(model, ids, Op::kRoute, layer), reference.ids(router), router);
    }
  }
}

// As long as all positions are chosen, this is attention over all of them.
TEST(SparseAttention, ShortTextsAreDense) {
  Exact model(fixture("deepseek_v32"));
  const Reference reference(fixture("deepseek_v32") + "/reference.safetensors");
  EXPECT_LT(relative_l2(model.logits(reference.ids("cases/t8/input_ids"), 256),
                        reference.floats("cases/t8/logits_dense")),
            1e-5);
  EXPECT_GT(relative_l2(model.logits(reference.ids("cases/t40/input_ids"), 256),
                        reference.floats("cases/t40/logits_dense")),
            1e-2);
}

TEST(SparseAttention, TheInterpreterChoosesAlike) {
  Exact model(fixture("deepseek_v32"));
  const Reference reference(fixture("deepseek_v32") + "/reference.safetensors");
  const Evaluator evaluator(model.checkpoint);
  const Graph& graph = model.built.graph;
  const auto values = must(interpret(
      graph,
      [&](const std::string& name, int64_t member) {
        return evaluator.decode(*graph.find_weight(name)->expr, member);
      },
      reference.ids("cases/t40/input_ids")));
  EXPECT_LT(relative_l2(values.back(), reference.floats("cases/t40/logits")), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, Parity,
    testing::Values(
        Case{"deepseek_v2-lite", "", "cases"}, Case{"deepseek_v2-grouped", "", "cases"},
        Case{"deepseek_v3", "", "cases"}, Case{"deepseek_v32", "", "cases"},
        Case{"deepseek_v3-fp8", "", "cases"}, Case{"deepseek_v4", "", "cases"},
        Case{"deepseek_v4-native", "", "cases"}, Case{"deepseek2-gguf-fused", "model-f16.gguf", "cases"},
        Case{"deepseek2-gguf-split", "model-f16.gguf", "cases"}, Case{"deepseek_v3-mtp", "", "cases"},
        Case{"llama-gqa-llama3rope", "", "cases"}, Case{"llama-gqa-llama3rope", "model-f32.gguf", "cases"},
        Case{"llama-gqa-llama3rope", "model-q8_0.gguf", "cases_q8_0"}, Case{"qwen2-tied", "", "cases"},
        Case{"qwen2-tied", "model-f32.gguf", "cases"}, Case{"qwen2-untied-sharded", "", "cases"},
        Case{"qwen2-gguf-f16", "model-f16-bf16.gguf", "cases"},
        Case{"qwen2-gguf-kquant", "model-q4_k-q6_k.gguf", "cases"}, Case{"qwen3-dense", "", "cases"},
        Case{"qwen3_moe", "", "cases"}),
    [](const auto& info) {
      std::string name = info.param.folder + (info.param.file.empty() ? "" : "_" + info.param.file);
      for (char& ch : name)
        if (!isalnum(static_cast<unsigned char>(ch))) ch = '_';
      return name;
    });

}  // namespace
}  // namespace fettle
