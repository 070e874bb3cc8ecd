// Row-wise operations between the linears. Every function works on one row and depends on nothing else, with
// one fixed order of operations per instruction set family: sums over a row are kept in 16 lanes (lane i sums
// elements i, i+16, ...), the lanes then added as a balanced tree; exp is exp_approx of vec16.h. So all
// instruction sets, ref.cc included, give equal bits.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cpu_features.h"

namespace fettle {

// How well whole numbers q times one scale stand for w: sums of (w - q s)^2, q (w - q s) and q^2.
struct CodeFit {
  double error, slope, curvature;
};

struct ElementwiseKernels {
  Isa isa;
  // out[d] = x[d] / sqrt(mean(x^2) + eps) * weight[d]   (Zhang & Sennrich 2019)
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t d, float* out);
  // out[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z))
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // The same of gate at most `limit` and up within +-limit; NaN counts as the limit.
  void (*silu_mul_limited)(const float* gate, const float* up, float limit, int64_t n, float* out);
  // out[i] = a[i] + b[i];  out may be a
  void (*add)(const float* a, const float* b, int64_t n, float* out);
  // y[i] += s * x[i]
  void (*axpy)(float s, const float* x, int64_t n, float* y);
  float (*sum_squares)(const float* x, int64_t n);
  // out[i] = sum over rows of weights[r] * rows[r][i], rows > 0; out may not be one of the rows
  void (*weighted_sum)(const float* const* rows, const float* weights, int64_t row_count, int64_t n,
                       float* out);
  // out[i] = sum over rows of softmax(gates[.][i])[r] * values[r][i]: every lane weighs the rows for itself
  void (*softmax_pool)(const float* const* values, const float* const* gates, int64_t row_count, int64_t n,
                       float* out);
  // Half-split rotary embedding of one head in place: pairs (x[i], x[i + dim/2]), i < dim/2; cos/sin tables
  // of the position.
  void (*rope_half)(float* x, const float* cos, const float* sin, int64_t dim);
  // Interleaved: pairs (x[2i], x[2i+1]).
  void (*rope_pairs)(float* x, const float* cos, const float* sin, int64_t dim);
  // x[n] -> probabilities in place, max-subtracted, fp32.
  void (*softmax)(float* x, int64_t n);
  // maxima[b] = the largest of x[64 b] .. x[64 b + 63], -inf where all of them are NaN; returns the largest.
  float (*block_maxima)(const float* x, int64_t n, float* maxima);
  // Sum of e^((x[i] - top) * factor) where no exponent is above 0: in fp32 over 1024 elements at a time,
  // these sums in double. What is below e^-87, and NaN, counts as e^-87.
  double (*sum_exp)(const float* x, float top, float factor, int64_t n);
  // x[i] = e^x[i] for x[i] <= 0 in double precision, relative error 1e-15; below e^-700 it stays there.
  void (*exp_doubles)(double* x, int64_t n);
  // The largest |x[i]|; NaN or infinity where one of them is that. n >= 1
  float (*magnitude)(const float* x, int64_t n);
  // q = w[i] / scale, rounded to whole numbers of at most `top`. Sums in fp32: for some hundred elements.
  CodeFit (*fit_codes)(const float* w, int64_t n, float scale, float top);
  // out[i] = those q for x[i] * inverse; top <= 127
  void (*whole_codes)(const float* x, int64_t n, float inverse, float top, int8_t* out);
  // out[i] = scale * the number that the e4m3 code stands for
  void (*scale_e4m3)(const uint8_t* codes, int64_t n, float scale, float* out);
};
inline constexpr int64_t kMaximaBlock = 64;
const ElementwiseKernels& find_elementwise_kernels(Isa isa);  // the best at or below isa
std::span<const ElementwiseKernels> elementwise_kernels();    // all, best first

}  // namespace fettle
