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

float f16_to_f32(uint16_t code);
uint16_t f32_to_f16(float value);

float e4m3_to_f32(uint8_t code);   // E4M3FN: 0x7f and 0xff are NaN, no infinity, maximum 448
uint8_t f32_to_e4m3(float value);  // saturates at +-448; NaN -> 0x7f
float e5m2_to_f32(uint8_t code);
uint8_t f32_to_e5m2(float value);
float e8m0_to_f32(uint8_t code);   // 2^(code-127); 255 is NaN; code 0 is the subnormal 2^-127
float e2m1_to_f32(uint8_t code);   // low 4 bits: sign, then 0 .5 1 1.5 2 3 4 6
uint8_t f32_to_e2m1(float value);  // saturates at +-6

}  // namespace fettle
