// Models of several residual streams with compressed attention, against the reference implementation.
#include "model/testing.h"

namespace fettle {
namespace {

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(error / norm);
}

TEST(Streams, TheInterpreterAgrees) {
  for (const char* folder : {"deepseek_v4", "deepseek_v4-native"}) {
    const Checkpoint checkpoint = must(Checkpoint::open(fixture(folder)));
    const BuiltGraph built = must(build_graph(checkpoint));
    const Evaluator evaluator(checkpoint);
    const auto decoded = [&](const std::string& name, int64_t member) {
      return evaluator.decode(*built.graph.find_weight(name)->expr, member);
    };
    const Reference reference(fixture(folder) + "/reference.safetensors");
    for (const char* name : {"t1", "t3", "t4", "t5", "t8", "t9", "t31", "t64", "t100", "t130"}) {
      const std::string key = std::string("cases/") + name + "/";
      if (!reference.has(key + "logits")) continue;
      const auto values = must(interpret(built.graph, decoded, reference.ids(key + "input_ids")));
      EXPECT_LT(relative_l2(values.back(), reference.floats(key + "logits")), 1e-5) << folder << " " << key;
    }
  }
}

}  // namespace
}  // namespace fettle
