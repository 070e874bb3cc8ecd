// f8b128: e4m3 codes, one fp32 scale for 128 columns of a row. A float's steps grow with it, so clipping
// gains nothing; what a scale changes is how the weights fall on the steps of their binades, which repeats
// when it doubles. The search tries a binade of scales, then fits the scale to the codes.
#include "quant/f8_block.h"

#include <algorithm>
#include <bit>

#include "quant/encoder.h"
#include "quant/fit.h"
#include "tensor/numbers.h"

namespace fettle::quant {

namespace {

constexpr float kTop = 448;

// Nearest e4m3 values, ties to even: steps are 1/8 of the binade, which ends at 2^-6, and rounding to whole
// steps is adding and taking away 1.5 * 2^23 of them.
struct E4m3Codes {
  Lanes operator()(Lanes x) const {
    using Words = uint32_t __attribute__((vector_size(16)));
    x = clamp(x, -kTop, kTop);
    Words binade = std::bit_cast<Words>(x) & 0x7f800000u;
    binade = binade > 0x3c800000u ? binade : Words{} + 0x3c800000u;
    const Lanes rounder = std::bit_cast<Lanes>(binade + (20u << 23)) * 1.5f;
    return (x + rounder) - rounder;
  }
};

// Up to 464 rounds to 448 with no more error than its neighbours have.
constexpr float kFactors[] = {1.0f,  0.966f, 1.05f, 1.1f,  1.16f, 1.22f, 1.28f,
                              1.35f, 1.42f,  1.5f,  1.58f, 1.67f, 1.77f, 1.88f};
constexpr float kLeastFactor = 0.966f;
constexpr int kDescents = 3;

// One block times 2^-exponent, padded with weights of no importance. Only where squares, or the inverse of
// the scale, could leave the range of fp32 is the exponent not 0.
struct ScaledBlock {
  float weights[kF8Block] = {}, importance[kF8Block] = {};
  float magnitude = 0;
  int exponent = 0;

  ScaledBlock(const float* block, const float* block_importance, int64_t count) {
    float most_important = 0;
    for (int64_t i = 0; i < count; ++i) magnitude = std::max(magnitude, std::fabs(block[i]));
    for (int64_t i = 0; block_importance && i < count; ++i)
      most_important = std::max(most_important, block_importance[i]);
    if (magnitude > 0 && std::abs(std::ilogb(magnitude)) > 30) exponent = std::ilogb(magnitude);
    for (int64_t i = 0; i < count; ++i) {
      weights[i] = exponent == 0 ? block[i] : std::ldexp(block[i], -exponent);
      importance[i] = most_important > 0 ? block_importance[i] / most_important : 1.0f;
    }
    magnitude = std::ldexp(magnitude, -exponent);
  }

  // A scale as fp32 keeps it once 2^exponent is back in it: subnormals lose digits; never zero.
  float stored(float scale) const {
    if (exponent == 0) return scale;
    return std::ldexp(std::max(std::ldexp(scale, exponent), 0x1p-149f), -exponent);
  }

  float searched() const {
    const float plain = magnitude / kTop;
    const auto probe_at = [&](float scale) {
      return probe({weights, importance, kF8Block}, scale, E4m3Codes{});
    };
    const auto store = [&](float scale) { return stored(std::max(scale, plain * kLeastFactor)); };
    Fit best = probe_at(stored(plain));
    for (const float factor : kFactors) {
      const Fit fit = descend(probe_at(store(plain * factor)), kDescents, probe_at, store);
      if (fit.error < best.error) best = fit;
    }
    return best.scale;
  }
};

}  // namespace

float f8_block_scale(const float* weights, int64_t rows, int64_t cols, int64_t ld, ScaleFormat format) {
  float magnitude = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) magnitude = std::max(magnitude, std::fabs(weights[r * ld + c]));
  if (magnitude == 0) return 1.0f;
  const float scale = std::max(magnitude / kTop, 0x1p-149f);
  return format == ScaleFormat::kUe8m0 ? ceil_power_of_two(scale) : scale;
}

void f8_encode(const float* weights, int64_t count, float scale, std::byte* codes) {
  // A quotient by a subnormal scale may leave fp32 on the way to a code; it saturates.
  for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<std::byte>(f32_to_e4m3(weights[i] / scale));
}

Status encode_f8b128(const EncodeInput& input, std::byte* out) {
  std::memset(out, 0, static_cast<size_t>(row_bytes(Scheme::kF8B128, input.columns)));
  std::byte* scales = out + f8_code_bytes(input.columns);
  for (int64_t at = 0; at < input.columns; at += kF8Block, scales += sizeof(float)) {
    const int64_t count = std::min(kF8Block, input.columns - at);
    const ScaledBlock block(input.weights + at, input.importance ? input.importance + at : nullptr, count);
    if (block.magnitude == 0) continue;
    const float scale =
        input.method == EncodeMethod::kSearch ? block.searched() : block.stored(block.magnitude / kTop);
    const float real_scale = std::ldexp(scale, block.exponent);
    std::memcpy(scales, &real_scale, sizeof real_scale);
    f8_encode(block.weights, count, scale, out + at);
  }
  return {};
}

// 448 is 14 steps of 32.
float half_step_f8b128(const std::byte* row, int64_t columns) {
  float largest = 0;
  for (int64_t b = 0; b < f8_blocks(columns); ++b) {
    float scale;
    std::memcpy(&scale, row + f8_code_bytes(columns) + 4 * b, sizeof scale);
    largest = std::max(largest, std::fabs(scale));
  }
  return 16 * largest;
}

}  // namespace fettle::quant
