// Rounding of activations to the forms that linear kernels read. Row by row: a row's codes depend only on
// that row.
//
// q8g32 and q8t, T rows of K: Kp = K rounded up to 64; G = Kp/32 groups (q8g32) or 1 (q8t). Buffer, each part
// 64-byte aligned:
//   int8  code[T][Kp]   (zeros beyond K)    |  float scale[T][G]    |  int32 sum[T][G]   (sum of the group's
//   codes)
// scale = max|x| / 127 over the group (q8t: over the row), 0 if all are 0; code = round to nearest even (x *
// (127 / max|x|)), clamped to [-127, 127]. Non-finite inputs give unspecified codes but no undefined
// behaviour.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_features.h"

namespace fettle {

struct Q8View {
  int8_t* codes;
  float* scales;
  int32_t* sums;
  int64_t k_padded;
  int64_t groups;  // a row
};
Q8View q8g32_view(std::byte* buffer, int64_t t, int64_t k);
Q8View q8t_view(std::byte* buffer, int64_t t, int64_t k);
int64_t q8_bytes(int64_t t, int64_t k, bool per_token);

// f8g128: Kp = K rounded up to 64, G = ceil(K/128). Buffer, each part 64-byte aligned:
//   e4m3 code[T][Kp]  (zeros beyond K)    |  float scale[T][G]
// as tensor/float_groups.h defines them.
struct F8View {
  uint8_t* codes;
  float* scales;
  int64_t k_padded;
  int64_t groups;  // a row
};
F8View f8g128_view(std::byte* buffer, int64_t t, int64_t k);

// bf16: rows of K elements rounded up to 32, zeros beyond K. fp32: rows of K, nothing between them.
inline int64_t bf16_row_stride(int64_t k) { return (k + 31) / 32 * 32; }

// Rounds row r of an activation buffer of t rows from x[k]. `Activation` in linear.h; fp32 is a copy.
enum class Activation : uint8_t;
using QuantiseRowFn = void (*)(const float* x, int64_t k, std::byte* buffer, int64_t t, int64_t r);
QuantiseRowFn find_quantise_row(Activation activation, Isa isa);

}  // namespace fettle
