#include "fit/memory.h"

#include <algorithm>

namespace fettle {

namespace {

constexpr uint64_t kFixed = uint64_t{1} << 30;
// Tokenizer, logits, activations, cache, scores: everything that is not weights.
constexpr uint64_t kReserve = uint64_t{640} << 20;

}  // namespace

uint64_t memory_promise(const Graph& graph) {
  uint64_t largest = 0;
  for (const Weight& w : graph.weights)
    largest = std::max(largest, static_cast<uint64_t>(w.expr->rows() * w.expr->cols()) * sizeof(float));
  return kFixed + 4 * largest;
}

uint64_t weights_allowed(const Graph& graph, const MemoryBound& bound) {
  if (bound.limit == UINT64_MAX) return UINT64_MAX;
  const uint64_t limit = bound.limit == 0 ? memory_promise(graph) : bound.limit;
  const uint64_t used = kReserve + bound.taken;
  return limit <= used ? 0 : static_cast<uint64_t>(static_cast<double>(limit - used) * bound.share);
}

}  // namespace fettle
