// Where the executor finds the bytes of a graph's weights. Two stores exist: the mapped artifact (artifact/),
// and a transient one that evaluates weight expressions over a checkpoint (weights/).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/result.h"
#include "tensor/dtype.h"
#include "tensor/scheme.h"

namespace fettle {

// A matrix [rows, cols] or a stack [n, rows, cols], each member packed as kernels/linear/layout.h says,
// members one after the other at a distance of `member_bytes`; or a vector [cols] as one canonical row. The
// bytes live as long as `owner`.
struct StoredWeight {
  Scheme scheme = Scheme::kF32;
  Shape shape;
  const std::byte* data = nullptr;
  int64_t member_bytes = 0;
  std::shared_ptr<const void> owner;
};

class WeightStore {
 public:
  virtual ~WeightStore() = default;
  virtual Result<StoredWeight> get(const std::string& name) = 0;
};

}  // namespace fettle
