// i8c: one fp32 scale a row, codes -127..127 (-128 is left out, so that negation never overflows). Long rows
// are probed in pieces, whose fp32 sums are added up in double.
#include <vector>

#include "quant/encoder.h"
#include "quant/fit.h"

namespace fettle::quant {

namespace {

constexpr float kTop = 127;
constexpr IntegerCodes kCodes{-kTop, kTop};
constexpr int kPiece = 512;

// The row times 2^-exponent, padded to a multiple of kStride. Scaling is needed only where squares could
// leave the range of fp32.
struct ScaledRow {
  std::vector<float> weights, importance;
  float magnitude = 0;
  int exponent = 0;

  explicit ScaledRow(const EncodeInput& input) {
    const auto padded = static_cast<size_t>((input.columns + kStride - 1) / kStride * kStride);
    weights.assign(padded, 0.0f);
    importance.assign(padded, 0.0f);
    float largest_importance = 0;
    for (int64_t i = 0; i < input.columns; ++i) magnitude = std::max(magnitude, std::fabs(input.weights[i]));
    if (input.importance)
      for (int64_t i = 0; i < input.columns; ++i)
        largest_importance = std::max(largest_importance, input.importance[i]);
    if (magnitude > 0 && std::abs(std::ilogb(magnitude)) > 30) exponent = std::ilogb(magnitude);
    for (int64_t i = 0; i < input.columns; ++i) {
      const auto at = static_cast<size_t>(i);
      weights[at] = exponent == 0 ? input.weights[i] : std::ldexp(input.weights[i], -exponent);
      importance[at] = largest_importance > 0 ? input.importance[i] / largest_importance : 1.0f;
    }
    magnitude = std::ldexp(magnitude, -exponent);
  }

  // A scale as fp32 keeps it once 2^exponent is back in it: subnormals lose digits; never zero.
  float stored(float scale) const {
    if (exponent == 0) return scale;
    const float real = std::max(std::ldexp(scale, exponent), 0x1p-149f);
    return std::ldexp(real, -exponent);
  }

  Fit probe_at(float scale) const {
    Fit total{scale};
    for (size_t at = 0; at < weights.size(); at += kPiece) {
      const int count = static_cast<int>(std::min<size_t>(kPiece, weights.size() - at));
      const Fit fit = probe({weights.data() + at, importance.data() + at, count}, scale, kCodes);
      total.error += fit.error;
      total.slope += fit.slope;
      total.curvature += fit.curvature;
    }
    return total;
  }
};

constexpr float kShrink = 0.97f;
constexpr int kMostShrinks =
    40;                       // down to 0.3 of the plain scale, for rows with an outlier that does not matter
constexpr int kPatience = 4;  // candidates in a row that do not help
constexpr int kDescents = 4;

float search_scale(const ScaledRow& row) {
  const auto probe_at = [&](float scale) { return row.probe_at(scale); };
  const auto store = [&](float scale) { return row.stored(scale); };
  Fit best = probe_at(store(row.magnitude / kTop));
  float scale = best.scale;
  for (int shrinks = 0, idle = 0; shrinks < kMostShrinks && idle < kPatience; ++shrinks) {
    scale *= kShrink;
    const Fit fit = probe_at(store(scale));
    idle = fit.error < best.error ? 0 : idle + 1;
    if (fit.error < best.error) best = fit;
  }
  return descend(best, kDescents, probe_at, store).scale;
}

}  // namespace

Status encode_i8c(const EncodeInput& input, std::byte* out) {
  const ScaledRow row(input);
  std::memset(out, 0, static_cast<size_t>(row_bytes(Scheme::kI8C, input.columns)));
  if (row.magnitude == 0) return {};
  const float scale =
      input.method == EncodeMethod::kSearch ? search_scale(row) : row.stored(row.magnitude / kTop);
  const float real_scale = std::ldexp(scale, row.exponent);
  std::memcpy(out, &real_scale, sizeof real_scale);
  const float inverse = 1.0f / scale;
  std::byte* codes = out + sizeof real_scale;
  for (int64_t i = 0; i < input.columns; i += kLanes) {
    const Lanes q = kCodes(load_lanes(row.weights.data() + i) * inverse);
    for (int64_t l = 0; l < std::min<int64_t>(kLanes, input.columns - i); ++l)
      codes[i + l] = static_cast<std::byte>(static_cast<int8_t>(q[static_cast<int>(l)]));
  }
  return {};
}

float half_step_i8c(const std::byte* row, int64_t) {
  float scale;
  std::memcpy(&scale, row, sizeof scale);
  return 0.5f * std::fabs(scale);
}

}  // namespace fettle::quant
