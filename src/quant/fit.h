// The least-squares core that the schemes share. For one scale s every weight takes its nearest code value q;
// probe() gives the weighted squared error and, from the same pass, the step to the scale that is best for
// these codes. Searches only ever compare errors at scales that can be stored, so the rounding of the scale
// itself is always counted.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fettle::quant {

// Four floats at once, as GCC and Clang define them for any processor: the sums keep one fixed order.
using Lanes = float __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kUnroll = 4;
constexpr int kStride = kLanes * kUnroll;  // counts handed to probe() are multiples of this

inline Lanes load_lanes(const float* p) {
  Lanes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Lanes spread(float x) { return Lanes{x, x, x, x}; }

// Nearest whole number, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no bits for the fraction.
inline Lanes round_even(Lanes x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

inline Lanes clamp(Lanes x, float low, float high) {
  x = x < low ? spread(low) : x;
  return x > high ? spread(high) : x;
}

inline double sum(Lanes v) { return static_cast<double>((v[0] + v[2]) + (v[1] + v[3])); }

// Code values of an integer scheme: the whole numbers of [low, high].
struct IntegerCodes {
  float low, high;
  Lanes operator()(Lanes x) const { return round_even(clamp(x, low, high)); }
};

// A piece of a row: weights and importance, count a multiple of kStride (padding has weight 0, importance 0).
struct Piece {
  const float* weights;
  const float* importance;
  int count;
};

struct Fit {
  float scale = 0;
  double error = 0;      // sum i (w - q s)^2
  double slope = 0;      // sum i q (w - q s)
  double curvature = 0;  // sum i q^2

  // The scale that minimises the error if the codes stay as they are.
  float best_scale() const { return curvature > 0 ? scale + static_cast<float>(slope / curvature) : scale; }
};

template <typename Codes>
Fit probe(const Piece& piece, float scale, Codes codes) {
  const float inverse = 1.0f / scale;
  Lanes error[kUnroll] = {}, slope[kUnroll] = {}, curvature[kUnroll] = {};
  for (int at = 0; at < piece.count; at += kStride) {
    for (int u = 0; u < kUnroll; ++u) {
      const Lanes w = load_lanes(piece.weights + at + u * kLanes);
      const Lanes i = load_lanes(piece.importance + at + u * kLanes);
      const Lanes q = codes(w * inverse);
      const Lanes r = w - q * scale;
      error[u] += i * r * r;
      slope[u] += i * q * r;
      curvature[u] += i * q * q;
    }
  }
  return {scale, sum((error[0] + error[1]) + (error[2] + error[3])),
          sum((slope[0] + slope[1]) + (slope[2] + slope[3])),
          sum((curvature[0] + curvature[1]) + (curvature[2] + curvature[3]))};
}

// Alternates "codes for this scale" and "scale for these codes" while the error falls. `probe_at(scale)`
// gives a Fit, `store` rounds a scale to one that can be stored and is not zero.
template <typename ProbeAt, typename Store>
Fit descend(Fit best, int most_steps, ProbeAt probe_at, Store store) {
  for (int step = 0; step < most_steps; ++step) {
    const float next = store(best.best_scale());
    if (next == best.scale) break;
    const Fit fit = probe_at(next);
    if (!(fit.error < best.error)) break;
    best = fit;
  }
  return best;
}

}  // namespace fettle::quant
