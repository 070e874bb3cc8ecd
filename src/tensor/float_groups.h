// Rounding of activations to small floats, group by group of consecutive lanes, each under one scale: e4m3
// (what a linear with 1x128 scales reads, and a latent cache of groups of 64) and e2m1 (groups of 32), with
// the Hadamard rotation that goes before the latter. Definitions: a kernel may be faster, never different.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fettle {

enum class ScaleFormat : uint8_t {
  kF32,    // "fp32"
  kUe8m0,  // "ue8m0": the next power of two
};
std::optional<ScaleFormat> parse_scale_format(std::string_view name);

// The least power of two that is not below a positive finite value; from 2^-126 on.
float ceil_power_of_two(float value);

// amax: the largest |x| of the group. fp32(max(amax, 1e-4) / 448), then rounded up to a power of two if
// asked. Some kernels multiply by fp32(1/448) instead: fp32 scales of half of the groups then differ in the
// last bit, and with them a rounding now and then; powers of two do not.
float e4m3_group_scale(float amax, ScaleFormat format);
// 2^ceil(log2(max(amax, 6 * 2^-126) / 6))
float e2m1_group_scale(float amax);

// codes[n] = e4m3(x / scale), to nearest even and saturating; returns the scale. A NaN does not count as the
// largest and gets the code of NaN.
float quantise_e4m3_group(const float* x, int64_t n, ScaleFormat format, uint8_t* codes);

// x[k] rounded in place to what its codes stand for; the last group may be shorter.
void round_e4m3_groups(float* x, int64_t k, int64_t group, ScaleFormat format);
void round_e2m1_groups(float* x, int64_t k, int64_t group = 32);

// x[n] times the Hadamard matrix in Sylvester's order, times n^-1/2. n is a power of two.
void hadamard_rotate(float* x, int64_t n);

}  // namespace fettle
