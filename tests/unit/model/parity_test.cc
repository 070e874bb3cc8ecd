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

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(error / norm);
}

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

INSTANTIATE_TEST_SUITE_P(
    Fixtures, Parity,
    testing::Values(Case{"deepseek_v2-lite", "", "cases"}, Case{"deepseek_v2-grouped", "", "cases"},
                    Case{"deepseek_v3", "", "cases"}, Case{"deepseek_v3-fp8", "", "cases"},
                    Case{"deepseek_v4", "", "cases"}, Case{"deepseek_v4-native", "", "cases"},
                    Case{"deepseek2-gguf-fused", "model-f16.gguf", "cases"},
                    Case{"deepseek2-gguf-split", "model-f16.gguf", "cases"},
                    Case{"deepseek_v3-mtp", "", "cases"}, Case{"llama-gqa-llama3rope", "", "cases"},
                    Case{"llama-gqa-llama3rope", "model-f32.gguf", "cases"},
                    Case{"llama-gqa-llama3rope", "model-q8_0.gguf", "cases_q8_0"},
                    Case{"qwen2-tied", "", "cases"}, Case{"qwen2-tied", "model-f32.gguf", "cases"},
                    Case{"qwen2-untied-sharded", "", "cases"},
                    Case{"qwen2-gguf-f16", "model-f16-bf16.gguf", "cases"},
                    Case{"qwen2-gguf-kquant", "model-q4_k-q6_k.gguf", "cases"},
                    Case{"qwen3-dense", "", "cases"}, Case{"qwen3_moe", "", "cases"}),
    [](const auto& info) {
      std::string name = info.param.folder + (info.param.file.empty() ? "" : "_" + info.param.file);
      for (char& ch : name)
        if (!isalnum(static_cast<unsigned char>(ch))) ch = '_';
      return name;
    });

}  // namespace
}  // namespace fettle
