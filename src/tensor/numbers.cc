#include "tensor/numbers.h"

#include <cmath>
#include <limits>

namespace fettle {

namespace {

constexpr uint32_t kInfinity = 0x7f800000u;

// The value of a non-negative code of a small float with subnormals; codes of infinity and NaN are the
// caller's business.
float small_float_value(uint32_t code, int mantissa_bits, int bias) {
  const uint32_t exponent = code >> mantissa_bits;
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  if (exponent == 0) return std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
  const uint32_t wide_exponent = exponent + 127u - static_cast<uint32_t>(bias);
  return std::bit_cast<float>(wide_exponent << 23 | mantissa << (23 - mantissa_bits));
}

// Nearest code (ties to even) of a magnitude given as fp32 bits, as if the exponent had no upper end: a carry
// out of the mantissa steps into the next binade by itself, and so does the largest subnormal.
uint32_t nearest_code(uint32_t magnitude, int mantissa_bits, int bias) {
  const int smallest_normal = 127 + 1 - bias;
  if (static_cast<int>(magnitude >> 23) < smallest_normal) {
    const float steps = std::ldexp(std::bit_cast<float>(magnitude), bias - 1 + mantissa_bits);
    return static_cast<uint32_t>(std::lrint(steps));
  }
  const int dropped = 23 - mantissa_bits;
  const uint32_t to_even = magnitude >> dropped & 1u;
  const uint32_t rounded = (magnitude + (1u << (dropped - 1)) - 1u + to_even) >> dropped;
  return rounded - (static_cast<uint32_t>(127 - bias) << mantissa_bits);
}

struct Split {
  uint32_t sign;  // 0 or 1
  uint32_t magnitude;
  bool nan;
};
Split split(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return {bits >> 31, bits & 0x7fffffffu, (bits & 0x7fffffffu) > kInfinity};
}

float with_sign(float magnitude, bool negative) { return negative ? -magnitude : magnitude; }

}  // namespace

uint16_t f32_to_f16(float value) {
  const auto [sign, magnitude, nan] = split(value);
  uint32_t code = 0x7c00u;
  if (nan)
    code = 0x7e00u | (magnitude >> 13 & 0x1ffu);
  else if (magnitude < std::bit_cast<uint32_t>(65536.0f))
    code = nearest_code(magnitude, 10, 15);
  return static_cast<uint16_t>(sign << 15 | code);
}

float e4m3_to_f32(uint8_t code) {
  if ((code & 0x7fu) == 0x7fu) return std::numeric_limits<float>::quiet_NaN();
  return with_sign(small_float_value(code & 0x7fu, 3, 7), code & 0x80u);
}

uint8_t f32_to_e4m3(float value) {
  const auto [sign, magnitude, nan] = split(value);
  if (nan) return 0x7f;
  const bool saturated = magnitude >= std::bit_cast<uint32_t>(448.0f);
  return static_cast<uint8_t>(sign << 7 | (saturated ? 0x7eu : nearest_code(magnitude, 3, 7)));
}

float e5m2_to_f32(uint8_t code) { return f16_to_f32(static_cast<uint16_t>(code << 8)); }

uint8_t f32_to_e5m2(float value) {
  const auto [sign, magnitude, nan] = split(value);
  if (nan) return 0x7f;
  const bool overflow = magnitude >= std::bit_cast<uint32_t>(65536.0f);
  return static_cast<uint8_t>(sign << 7 | (overflow ? 0x7cu : nearest_code(magnitude, 2, 15)));
}

float e8m0_to_f32(uint8_t code) {
  if (code == 0xff) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);
}

float e2m1_to_f32(uint8_t code) { return with_sign(small_float_value(code & 7u, 1, 1), code & 8u); }

uint8_t f32_to_e2m1(float value) {
  const auto [sign, magnitude, nan] = split(value);
  if (nan) return 0x7;  // the format has no NaN: the largest value, so that it is seen
  const bool saturated = magnitude >= std::bit_cast<uint32_t>(6.0f);
  return static_cast<uint8_t>(sign << 3 | (saturated ? 7u : nearest_code(magnitude, 1, 1)));
}

}  // namespace fettle
