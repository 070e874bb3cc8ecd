#include "tensor/float_groups.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "tensor/numbers.h"

namespace fettle {

namespace {

constexpr float kE4m3Top = 448, kE2m1Top = 6;
constexpr float kSmallestE4m3Amax = 1e-4f, kSmallestE2m1Amax = 6 * 0x1p-126f;

// A NaN loses every comparison.
float largest_magnitude(const float* x, int64_t n) {
  float amax = 0;
  for (int64_t i = 0; i < n; ++i) amax = std::fabs(x[i]) > amax ? std::fabs(x[i]) : amax;
  return amax;
}

}  // namespace

std::optional<ScaleFormat> parse_scale_format(std::string_view name) {
  if (name == "fp32") return ScaleFormat::kF32;
  if (name == "ue8m0") return ScaleFormat::kUe8m0;
  return std::nullopt;
}

float ceil_power_of_two(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>(std::max((bits + 0x007fffffu) & 0x7f800000u, 0x00800000u));
}

float e4m3_group_scale(float amax, ScaleFormat format) {
  const float scale = std::max(amax, kSmallestE4m3Amax) / kE4m3Top;
  return format == ScaleFormat::kUe8m0 ? ceil_power_of_two(scale) : scale;
}

float e2m1_group_scale(float amax) { return ceil_power_of_two(std::max(amax, kSmallestE2m1Amax) / kE2m1Top); }

float quantise_e4m3_group(const float* x, int64_t n, ScaleFormat format, uint8_t* codes) {
  const float scale = e4m3_group_scale(largest_magnitude(x, n), format);
  for (int64_t i = 0; i < n; ++i) codes[i] = f32_to_e4m3(x[i] / scale);
  return scale;
}

void round_e4m3_groups(float* x, int64_t k, int64_t group, ScaleFormat format) {
  std::vector<uint8_t> codes(static_cast<size_t>(group));
  for (int64_t begin = 0; begin < k; begin += group) {
    const int64_t n = std::min(group, k - begin);
    const float scale = quantise_e4m3_group(x + begin, n, format, codes.data());
    for (int64_t i = 0; i < n; ++i) x[begin + i] = e4m3_to_f32(codes[i]) * scale;
  }
}

void round_e2m1_groups(float* x, int64_t k, int64_t group) {
  for (int64_t begin = 0; begin < k; begin += group) {
    const int64_t n = std::min(group, k - begin);
    const float scale = e2m1_group_scale(largest_magnitude(x + begin, n));
    for (int64_t i = begin; i < begin + n; ++i) x[i] = e2m1_to_f32(f32_to_e2m1(x[i] / scale)) * scale;
  }
}

void hadamard_rotate(float* x, int64_t n) {
  CHECK(n > 0 && (n & (n - 1)) == 0, "{}", n);
  for (int64_t half = 1; half < n; half *= 2)
    for (int64_t block = 0; block < n; block += 2 * half)
      for (int64_t i = block; i < block + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
  const float factor = 1.0f / std::sqrt(static_cast<float>(n));
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace fettle
