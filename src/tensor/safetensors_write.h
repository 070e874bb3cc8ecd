// Writing small safetensors files (logits, known answers): fp32 and int64 tensors, in the order given.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace fettle {

struct TensorToWrite {
  std::string name;
  DType dtype;  // kF32 or kI64, ...
  Shape shape;
  const void* data;  // row-major, little-endian
};
// The file appears under its name only when whole.
Status write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors);

}  // namespace fettle
