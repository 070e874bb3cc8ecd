// Number formats as pure functions: value of a code, and rounding to nearest even. These are the definitions;
// kernels may be faster, never different. Sources: OCP 8-bit and MX specifications v1.0 (E4M3, E5M2, E8M0,
// E2M1), IEEE 754 (F16), bfloat16.
#pragma once

#include <bit>
#include <cstdint>

namespace fettle {

inline float bf16_to_f32(uint16_t code) { return std::bit_cast<float>(static_cast<uint32_t>(code) << 16); }

// NaN stays NaN (quiet); overflow rounds to infinity.
inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Without branches, so that loops over it become vector code. Signalling NaN stays signalling, payloads stay.
inline float f16_to_f32(uint16_t code) {
  constexpr int32_t kRebias = (127 - 15) << 23;
  const int32_t magnitude = code & 0x7fff;
  // A subnormal is a small whole number of steps; no fp32 subnormal takes part, so flush-to-zero modes do no
  // harm.
  const int32_t subnormal = std::bit_cast<int32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  const int32_t is_subnormal = (magnitude - 0x400) >> 31;  // all bits or none
  const int32_t is_largest = (0x7bff - magnitude) >> 31;   // infinity or NaN: the largest exponent of both
  const int32_t normal = (magnitude << 13) + kRebias + (is_largest & kRebias);
  const int32_t bits = (normal & ~is_subnormal) | (subnormal & is_subnormal);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) | static_cast<uint32_t>(code & 0x8000) << 16);
}
uint16_t f32_to_f16(float value);

float e4m3_to_f32(uint8_t code);   // E4M3FN: 0x7f and 0xff are NaN, no infinity, maximum 448
uint8_t f32_to_e4m3(float value);  // saturates at +-448; NaN -> 0x7f
float e5m2_to_f32(uint8_t code);
uint8_t f32_to_e5m2(float value);
float e8m0_to_f32(uint8_t code);   // 2^(code-127); 255 is NaN; code 0 is the subnormal 2^-127
float e2m1_to_f32(uint8_t code);   // low 4 bits: sign, then 0 .5 1 1.5 2 3 4 6
uint8_t f32_to_e2m1(float value);  // saturates at +-6

}  // namespace fettle
