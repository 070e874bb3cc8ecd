// y[T,N] = x[T,K] . W[N,K]^T (+ bias[N]) (+ what y held before). The heart of the executor.
//
// W is packed in tiles of 16 rows (layout.h); x is plain fp32, bf16, or int8 made by quantise.h. Contract of
// every kernel: a row of y depends only on its own row of x: not on T, on neighbours, on tile ranges or on
// threads. Kernels for int8 activations are bit-equal to ref.cc on every instruction set, by this order of
// operations, for the groups g of 32 in order:
//   acc = fma(float(sum_k (w_code - w_zero) * x_code), w_scale[g] * x_scale[g], acc)      (+ the schemes'
//   minimum terms)
// Small floats under block scales (f8b128, mxfp4 with float inputs) likewise, sum_k being a chain of fma in
// fp32 over the block; x_scale is 1 unless x is f8g128.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/cpu_features.h"
#include "kernels/linear/layout.h"
#include "kernels/linear/quantise.h"

namespace fettle {

// How the input of a linear is handed over.
enum class Activation : uint8_t {
  kF32,    // "f32"
  kBF16,   // "bf16": rounded to nearest even
  kQ8G32,  // "q8g32": int8, one fp32 scale per token and 32 consecutive k
  kQ8T,    // "q8t": int8, one fp32 scale per token
  // e4m3, one scale per token and 128 consecutive k. The same bytes and kernels for both; the second rounds
  // scales up to powers of two.
  kF8G128,       // "f8g128"
  kF8G128Ue8m0,  // "f8g128_ue8m0"
};
std::string_view activation_name(Activation a);
Result<Activation> parse_activation(std::string_view name);

// Bytes of T rows of K elements in the given form (buffers are 64-byte aligned).
int64_t activation_bytes(Activation a, int64_t t, int64_t k);

struct LinearArgs {
  const std::byte* weight;  // packed, 64-byte aligned
  int64_t n, k;             // rows and columns of W
  const std::byte* x;       // T rows in the kernel's Activation form (see quantise.h for the int8 forms)
  int64_t t;                // rows of x and y
  float* y;                 // y[t, ldy]; columns 0..n-1 are written
  int64_t ldy;
  const float* bias;             // [n] or null, added after the sum over k
  bool accumulate;               // y = y + (sum + bias), in that order
  int64_t tile_begin, tile_end;  // which tiles of 16 rows to compute: the unit that threads share out
};
using LinearFn = void (*)(const LinearArgs& args);

// One line of kernels.inc.
struct LinearKernel {
  std::string_view name;  // "q4_1.q8g32.avx512-vnni"
  Scheme scheme;
  Activation activation;
  Isa isa;
  LinearFn run;
};

std::span<const LinearKernel> linear_kernels();  // all, best first for each (scheme, activation)

// The best kernel for the pair whose level is at most `isa`; null when the pair has none. Pairs that exist:
// (f32, f32) (f16, f32) (bf16, bf16) (bf16, f32), (i8c, q8t), f32, bf16 and f8g128 with f8b128 and mxfp4, and
// q8g32 with every other scheme and mxfp4.
const LinearKernel* find_linear_kernel(Scheme scheme, Activation activation, Isa isa);
const LinearKernel* find_linear_kernel(std::string_view name);

}  // namespace fettle
