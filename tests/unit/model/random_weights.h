// Graphs without a checkpoint: every weight is drawn from its name.
#pragma once

#include <random>

#include "kernels/linear/layout.h"
#include "model/testing.h"

namespace fettle {

inline std::vector<float> random_member(const Graph& graph, const std::string& name, int64_t member) {
  const Expr& expr = *graph.find_weight(name)->expr;
  std::seed_seq seed(name.begin(), name.end());
  std::mt19937 generator(seed);
  generator.discard(static_cast<unsigned long long>(member) * 4096);
  const bool vector = expr.shape.size() == 1;
  std::normal_distribution<float> normal(0.0f,
                                         vector ? 1.0f : 1.0f / std::sqrt(static_cast<float>(expr.cols())));
  std::vector<float> values(static_cast<size_t>(expr.rows() * expr.cols()));
  for (float& x : values) x = normal(generator);
  return values;
}

inline DecodedWeights random_weights(const Graph& graph) {
  return [&graph](const std::string& name, int64_t member) -> Result<std::vector<float>> {
    return random_member(graph, name, member);
  };
}

// The same numbers for the executor; every weight is fp32. The graph must outlive the store.
class RandomStore final : public WeightStore {
 public:
  explicit RandomStore(const Graph& graph) : graph_(graph) {}
  Result<StoredWeight> get(const std::string& name) override {
    const Expr& expr = *graph_.find_weight(name)->expr;
    const int64_t stride = row_bytes(Scheme::kF32, expr.cols());
    const bool vector = expr.shape.size() == 1;
    const int64_t member_bytes = vector ? stride : packed_bytes(Scheme::kF32, expr.rows(), expr.cols());
    auto buffer = std::make_shared<HugeBuffer>(
        must(HugeBuffer::allocate(static_cast<uint64_t>(expr.stack() * member_bytes))));
    for (int64_t m = 0; m < expr.stack(); ++m) {
      const std::vector<float> values = random_member(graph_, name, m);
      std::byte* out = buffer->data() + m * member_bytes;
      if (vector) std::memcpy(out, values.data(), static_cast<size_t>(stride));
      for (int64_t tile = 0; !vector && tile < tile_count(expr.rows()); ++tile)
        pack_tile(Scheme::kF32, reinterpret_cast<const std::byte*>(values.data()) + tile * kTileRows * stride,
                  stride, std::min(kTileRows, expr.rows() - tile * kTileRows), expr.cols(),
                  out + tile * packed_tile_bytes(Scheme::kF32, expr.cols()));
    }
    return StoredWeight{Scheme::kF32, expr.shape, buffer->data(), member_bytes, buffer};
  }

 private:
  const Graph& graph_;
};

}  // namespace fettle
