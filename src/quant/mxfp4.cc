// MXFP4 (OCP MX v1.0): blocks of 32 e2m1 codes under one power of two. The plain rule takes the exponent of
// the largest weight less the 2 of e2m1's largest binade; the search tries its neighbours, which trade
// clipping against step.
#include "quant/block.h"
#include "tensor/numbers.h"

namespace fettle::quant {

namespace {

constexpr int kBytes = 17;
constexpr int kBias = 127;
constexpr int kLargestCode = 254;  // 255 is NaN
constexpr float kE2m1Max = 6;

// e2m1 steps by 0.5 below 2, by 1 below 4, by 2 above; rounding to even on each step is rounding to an even
// mantissa.
struct E2m1Codes {
  Lanes operator()(Lanes x) const {
    x = clamp(x, -kE2m1Max, kE2m1Max);
    const Lanes magnitude = x < 0.0f ? -x : x;
    const Lanes big = magnitude < 4.0f ? spread(0x1.8p23f) : spread(0x1.8p24f);
    const Lanes rounder = magnitude < 2.0f ? spread(0x1.8p22f) : big;
    return (x + rounder) - rounder;
  }
};

// The block times 2^-exponent, so that no square leaves the range of fp32.
void scale_down(const float* block, int exponent, float* out) {
  for (int i = 0; i < kBlock; ++i) out[i] = std::ldexp(block[i], -exponent);
}

int stored_exponent(int exponent) { return std::clamp(exponent + kBias, 0, kLargestCode) - kBias; }

// `scaled` is the block times 2^-plain.
int search_exponent(const float* scaled, const float* importance, int plain) {
  int best = plain;
  double best_error = HUGE_VAL;
  for (const int step : {0, -1, 1}) {
    const int exponent = stored_exponent(plain + step);
    const double error =
        probe({scaled, importance, kBlock}, std::ldexp(1.0f, exponent - plain), E2m1Codes{}).error;
    if (error < best_error) {
      best_error = error;
      best = exponent;
    }
  }
  return best;
}

}  // namespace

Status encode_mxfp4(const EncodeInput& input, std::byte* out) {
  for (int64_t at = 0; at < input.columns; at += kBlock, out += kBytes) {
    const float* block = input.weights + at;
    const Extremes extremes = extremes_of(block);
    int exponent = -kBias;
    Codes32 codes{};
    if (extremes.magnitude != 0) {
      float scaled[kBlock];
      exponent = stored_exponent(std::ilogb(extremes.magnitude) - 2);
      scale_down(block, exponent, scaled);
      if (input.method == EncodeMethod::kSearch) {
        const BlockImportance importance(input.importance, at);
        const int plain = exponent;
        exponent = search_exponent(scaled, importance.values(), plain);
        if (exponent != plain) scale_down(block, exponent, scaled);
      }
      for (int i = 0; i < kBlock; ++i) codes[i] = f32_to_e2m1(scaled[i]);
    }
    out[0] = static_cast<std::byte>(exponent + kBias);
    pack_nibbles(codes, out + 1);
  }
  return {};
}

float half_step_mxfp4(const std::byte* row, int64_t columns) {
  float largest = 0;
  for (int64_t at = 0; at < columns; at += kBlock, row += kBytes)
    largest = std::max(largest, e8m0_to_f32(std::to_integer<uint8_t>(row[0])));
  return largest;  // the gap from 4 to 6, halved
}

}  // namespace fettle::quant
