// What the index kernels share.
#pragma once

#include "kernels/attention/layout.h"
#include "kernels/index/index.h"

namespace fettle {

#define FETTLE_INDEX(name, type, isa, function) void function(const IndexArgs& args);
#include "kernels/index/kernels.inc"
#undef FETTLE_INDEX

// Floats kept for one q: two whole vectors hold 32 bf16 or 16 fp32 numbers.
inline int64_t index_q_floats(int64_t k_dim) {
  return (k_dim + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes);
}

}  // namespace fettle
