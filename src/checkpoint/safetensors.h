// One safetensors file: an 8-byte length, a JSON header, then the tensors' bytes with no gap and no overlap.
// The header is taken only when every rule of the format holds for every tensor, so an entry's range may be
// read without further checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "tensor/dtype.h"

namespace fettle {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t offset = 0;  // from the start of the file; no alignment is promised
  uint64_t bytes = 0;
};

// The entries in the order of their bytes. `what` names the file in errors.
Result<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> file,
                                                        const std::string& what);

// The tensors of one mapped file.
Result<std::vector<StoredTensor>> read_safetensors(const std::string& path);

}  // namespace fettle
