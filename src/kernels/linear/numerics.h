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

}  // namespace fettle::linear
