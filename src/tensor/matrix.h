// Views of coded matrices. A vector (norm weight, bias) is a matrix of one row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/scheme.h"

namespace fettle {

// Read-only view of a matrix [rows, cols] in the canonical row layout; `owner` keeps the bytes alive.
struct MatrixView {
  Scheme scheme = Scheme::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  std::shared_ptr<const void> owner;

  int64_t row_stride() const { return row_bytes(scheme, cols); }
  int64_t bytes() const { return rows * row_stride(); }
  const std::byte* row(int64_t r) const { return data + r * row_stride(); }
  void decode_row(int64_t r, float* out) const { scheme_info(scheme).decode_row(row(r), cols, out); }
  std::vector<float> decode() const {
    std::vector<float> out(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r) decode_row(r, out.data() + r * cols);
    return out;
  }
};

}  // namespace fettle
