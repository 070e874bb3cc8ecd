// The few numbers that the definition (ref.cc) and every faster kernel share. Private to this folder.
#pragma once

#include <cstdint>

namespace fettle::linear {

// Floats are summed over k in blocks of this many, and the blocks in order: shorter chains, smaller rounding
// errors.
inline constexpr int64_t kFloatBlock = 256;

inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

// Twice the values of e2m1, which makes them whole; the scale is halved instead.
inline constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// bf16 codes of small floats, taken apart into bytes that one table look-up each finds.
// e4m3: the high nibble (sign, upper exponent bits) gives the high byte of a normal number, the low nibble is
// the upper half of the low byte. kE4m3Low*: the subnormal numbers 0..7 * 2^-9.
inline constexpr uint8_t kE4m3High[16] = {0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43,
                                          0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3};
inline constexpr uint8_t kE4m3LowHigh[16] = {0x00, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c};
inline constexpr uint8_t kE4m3LowLow[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x20, 0x40, 0x60};
inline constexpr uint8_t kE2m1High[16] = {0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                                          0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
inline constexpr uint8_t kE2m1Low[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0,
                                         0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0};

// One code at a time; e4m3 values all have bf16 codes.
inline uint16_t e4m3_as_bf16(uint8_t code) {
  const uint32_t sign = code & 0x80u, magnitude = code & 0x7fu;
  if (magnitude == 0x7f) return static_cast<uint16_t>(sign << 8 | 0x7fc0);
  if (magnitude < 8)
    return static_cast<uint16_t>((sign | kE4m3LowHigh[magnitude]) << 8 | kE4m3LowLow[magnitude]);
  return static_cast<uint16_t>(sign << 8 | ((magnitude << 4) + (120u << 7)));
}

}  // namespace fettle::linear
