// Register-only loops that reach a processor's multiply-add peak.
#pragma once

#include <cstdint>

#include "kernels/cpu_features.h"

namespace fettle {

// Each runs `rounds` rounds on the calling thread and returns the operations done (two a multiply-add). Null:
// not available.
struct PeakLoops {
  int64_t (*int8)(int64_t rounds) = nullptr;
  int64_t (*bf16)(int64_t rounds) = nullptr;
  int64_t (*f32)(int64_t rounds) = nullptr;
};
PeakLoops peak_loops(Isa isa);

}  // namespace fettle
