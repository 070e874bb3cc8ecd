// i8c: one fp32 scale a row, codes -127..127 (-128 is left out, so that negation never overflows). Long rows
// are probed in pieces, whose fp32 sums are added up in double.
#include <algorithm>
#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "quant/encoder.h"
#include "quant/fit.h"

namespace fettle::quant {

namespace {

constexpr float kTop = 127;
constexpr IntegerCodes kCodes{-kTop, kTop};
constexpr int kPiece = 512;

// Any instruction set gives the same bits.
const ElementwiseKernels& kernels() {
  static const ElementwiseKernels& best = find_elementwise_kernels(detect_isa());
  return best;
}

// The row times 2^-exponent. Scaling is needed only where squares could leave the range of fp32; nearly
// always the input serves as it is.
struct ScaledRow {
  const float* weights;
  int64_t columns;
  std::vector<float> own;         // the weights if they are not the input's
  std::vector<float> importance;  // empty, or as padded as `own`
  float magnitude;
  int exponent = 0;

  explicit ScaledRow(const EncodeInput& input)
      : weights(input.weights), columns(input.columns), magnitude(input.magnitude) {
    if (magnitude > 0 && std::abs(std::ilogb(magnitude)) > 30) exponent = std::ilogb(magnitude);
    if (input.importance) weigh(input.importance);
    if (exponent == 0 && importance.empty()) return;
    own.assign(padded(), 0.0f);
    for (int64_t i = 0; i < columns; ++i) own[static_cast<size_t>(i)] = std::ldexp(weights[i], -exponent);
    weights = own.data();
    magnitude = std::ldexp(magnitude, -exponent);
  }
  ScaledRow(const ScaledRow&) = delete;

  size_t padded() const { return static_cast<size_t>((columns + kStride - 1) / kStride * kStride); }

  // All zero means the same as none.
  void weigh(const float* given) {
    const float largest = *std::max_element(given, given + columns);
    if (!(largest > 0)) return;
    importance.assign(padded(), 0.0f);
    for (int64_t i = 0; i < columns; ++i) importance[static_cast<size_t>(i)] = given[i] / largest;
  }

  // A scale as fp32 keeps it once 2^exponent is back in it: subnormals lose digits; never zero.
  float stored(float scale) const {
    if (exponent == 0) return scale;
    const float real = std::max(std::ldexp(scale, exponent), 0x1p-149f);
    return std::ldexp(real, -exponent);
  }

  Fit probe_at(float scale) const {
    Fit total{scale};
    for (int64_t at = 0; at < columns; at += kPiece) {
      const Fit fit = probe_piece(at, scale);
      total.error += fit.error;
      total.slope += fit.slope;
      total.curvature += fit.curvature;
    }
    return total;
  }

 private:
  Fit probe_piece(int64_t at, float scale) const {
    if (!importance.empty()) {
      const int count = static_cast<int>(std::min<int64_t>(kPiece, static_cast<int64_t>(padded()) - at));
      return probe({weights + at, importance.data() + at, count}, scale, kCodes);
    }
    const CodeFit fit =
        kernels().fit_codes(weights + at, std::min<int64_t>(kPiece, columns - at), scale, kTop);
    return {scale, fit.error, fit.slope, fit.curvature};
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
  kernels().whole_codes(row.weights, row.columns, 1.0f / scale, kTop,
                        reinterpret_cast<int8_t*>(out + sizeof real_scale));
  return {};
}

float half_step_i8c(const std::byte* row, int64_t) {
  float scale;
  std::memcpy(&scale, row, sizeof scale);
  return 0.5f * std::fabs(scale);
}

}  // namespace fettle::quant
