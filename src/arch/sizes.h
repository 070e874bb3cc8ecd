// What a model takes as its source stores it, by part and by type: of the tensors that its graphs read, or
// that a configuration says they would.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "arch/arch.h"
#include "base/json.h"

namespace fettle {

// How a checkpoint stores a tensor of this name, as far as its configuration tells.
Scheme presumed_scheme(const Json& config, const std::string& hf_name, const Shape& shape);

struct StorageCount {
  int64_t tensors = 0;
  uint64_t bytes = 0;
};
struct SourceSizes {
  uint64_t total = 0;
  std::map<std::string, StorageCount> by_scheme;
  std::map<std::string, uint64_t> by_part;  // attention, experts, shared_experts, dense_mlp, ...
};
SourceSizes source_sizes(const BuiltGraph& built);

}  // namespace fettle
