// The `local` target: what this machine was measured to do, kept in the cache directory so that it is
// measured once.
#pragma once

#include <string>
#include <vector>

#include "device/cpu/probe.h"
#include "plan/plan.h"

namespace fettle {

// One kernel's measured speed, as stored.
struct MeasuredKernel {
  std::string kernel, scheme, activation;
  double read_gbs = 0, gops = 0;
};

struct LocalTarget {
  Rates rates;
  std::vector<MeasuredKernel> kernels;
  const MeasuredKernel* find(const std::string& scheme) const;  // the best for that scheme
};

// Reads the cached measurement of this processor, instruction set and thread count, or measures (some
// seconds) and stores it.
Result<LocalTarget> local_target(int threads, Isa isa, const std::string& cache_directory,
                                 bool measure_again);

Json local_target_to_json(const LocalTarget& target);

}  // namespace fettle
