// The lanes of vec16.h as an array: the definition of each operation, and the fallback for any processor.
// Include <bit>, <cmath>, <cstdint> before.
#pragma once

namespace fettle {
namespace {

struct F32x16 {
  float lane[16];
};
struct Mask16 {
  uint32_t bits;
};

#define FETTLE_EACH_LANE(expression)                        \
  F32x16 result;                                            \
  for (int i = 0; i < 16; ++i) result.lane[i] = expression; \
  return result

inline F32x16 broadcast(float x) { FETTLE_EACH_LANE(x); }
inline F32x16 load(const float* p) { FETTLE_EACH_LANE(p[i]); }
inline F32x16 load_part(const float* p, int64_t n) { FETTLE_EACH_LANE(i < n ? p[i] : 0.0f); }
inline void store(float* p, F32x16 x) {
  for (int i = 0; i < 16; ++i) p[i] = x.lane[i];
}
inline void store_part(float* p, F32x16 x, int64_t n) {
  for (int i = 0; i < 16 && i < n; ++i) p[i] = x.lane[i];
}
inline F32x16 add(F32x16 a, F32x16 b) { FETTLE_EACH_LANE(a.lane[i] + b.lane[i]); }
inline F32x16 sub(F32x16 a, F32x16 b) { FETTLE_EACH_LANE(a.lane[i] - b.lane[i]); }
inline F32x16 mul(F32x16 a, F32x16 b) { FETTLE_EACH_LANE(a.lane[i] * b.lane[i]); }
inline F32x16 div(F32x16 a, F32x16 b) { FETTLE_EACH_LANE(a.lane[i] / b.lane[i]); }
inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  FETTLE_EACH_LANE(std::fma(a.lane[i], b.lane[i], c.lane[i]));
}
inline F32x16 max(F32x16 a, F32x16 b) { FETTLE_EACH_LANE(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
inline F32x16 min(F32x16 a, F32x16 b) { FETTLE_EACH_LANE(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }

// Lanes 0..n-1.
inline Mask16 first_lanes(int64_t n) { return {n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u}; }
inline F32x16 select(Mask16 mask, F32x16 yes, F32x16 no) {
  FETTLE_EACH_LANE((mask.bits >> i & 1) ? yes.lane[i] : no.lane[i]);
}

// p * 2^n for integral n in [-152, 128], rounded once: the first factor cannot underflow for p near 1.
inline F32x16 scale_by_power_of_two(F32x16 p, F32x16 n) {
  F32x16 result;
  for (int i = 0; i < 16; ++i) {
    // A NaN is not an integer; any factor keeps it NaN.
    const int32_t whole = n.lane[i] == n.lane[i] ? static_cast<int32_t>(n.lane[i]) : 0;
    const int32_t half = whole >> 1;
    const float first = std::bit_cast<float>((half + 127) << 23);
    const float second = std::bit_cast<float>((whole - half + 127) << 23);
    result.lane[i] = p.lane[i] * first * second;
  }
  return result;
}

// Whole numbers that int8 holds.
inline void store_codes(int8_t* p, F32x16 x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(x.lane[i]);
}
// The numbers that 16 e4m3 codes stand for: with exponent and mantissa in a float's places they are 2^120
// times too small, subnormals included.
inline float e4m3_lane(uint32_t code) {
  const uint32_t magnitude = code & 0x7f;
  const float value = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  return std::bit_cast<float>(magnitude == 0x7f ? 0x7fc00000u
                                                : std::bit_cast<uint32_t>(value) | (code & 0x80) << 24);
}
inline F32x16 load_e4m3(const uint8_t* p) { FETTLE_EACH_LANE(e4m3_lane(p[i])); }

// The balanced tree: lane i with i + 8, then + 4, + 2, + 1.
inline float reduce_add(F32x16 x) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x.lane[i] = x.lane[i] + x.lane[i + width];
  return x.lane[0];
}
inline float reduce_max(F32x16 x) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x.lane[i] = x.lane[i] > x.lane[i + width] ? x.lane[i] : x.lane[i + width];
  return x.lane[0];
}
#undef FETTLE_EACH_LANE

}  // namespace
}  // namespace fettle
