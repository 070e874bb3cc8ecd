// Views of coded matrices. A vector (norm weight, bias) is a matrix of one row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/scheme.h"

namespace fettle {

// Scales that a file keeps in a tensor of their own, away from the codes. f8b128: fp32, bf16 or e8m0, one for
// 128 rows and 128 columns, both counted from 0, so that the last of a row or column may serve fewer. mxfp4:
// e8m0, one for 32 columns of a row; the codes' bytes then hold columns 2j (low nibble) and 2j+1.
struct ScaleView {
  DType dtype = DType::kF32;
  int64_t cols = 0;
  const std::byte* data = nullptr;  // no alignment is promised
  std::shared_ptr<const void> owner = {};
};
// Rows and columns of the scales of a matrix [rows, cols]. `scheme`: kF8B128 or kMXFP4.
Shape scales_shape(Scheme scheme, int64_t rows, int64_t cols);

// Read-only view of a matrix [rows, cols]: canonical rows, or codes whose scales are elsewhere. `owner` keeps
// the bytes alive.
struct MatrixView {
  Scheme scheme = Scheme::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  std::shared_ptr<const void> owner;
  std::optional<ScaleView> scales = {};  // set: data holds the codes alone, `code_stride` bytes a row

  int64_t row_stride() const { return row_bytes(scheme, cols); }  // of a canonical row
  int64_t bytes() const { return rows * row_stride(); }           // as canonical rows
  int64_t code_stride() const { return scheme == Scheme::kMXFP4 ? cols / 2 : cols; }

  // Canonical rows [begin, begin + count) -> out[count * row_stride()].
  void copy_rows(int64_t begin, int64_t count, std::byte* out) const;
  void decode_row(int64_t r, float* out) const;
  std::vector<float> decode() const;
};

}  // namespace fettle
