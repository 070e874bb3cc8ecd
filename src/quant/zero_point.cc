// i4g32z: blocks of 32, codes 0..15, a whole zero point z and a positive fp16 scale. For one z the code
// values are the whole numbers of [-z, 15 - z], so the search is the symmetric one over a few zero points.
#include "quant/block.h"

namespace fettle::quant {

namespace {

constexpr int kTop = 15;
constexpr int kBytes = 19;

struct Coded {
  float scale;  // as stored
  int zero;
};

IntegerCodes codes_of(int zero) { return {static_cast<float>(-zero), static_cast<float>(kTop - zero)}; }

// Zero is always a code: the range is widened to hold it.
struct Range {
  float low, high;
  float scale() const { return (high - low) / kTop; }
  int zero() const {
    const float z = scale() > 0 ? -low / scale() : 0;
    return static_cast<int>(std::lrint(std::clamp(z, 0.0f, static_cast<float>(kTop))));
  }
};

// The smallest scale at which the codes around `zero` reach both ends.
float covering_scale(const Range& range, int zero) {
  float scale = 0;
  if (zero < kTop) scale = range.high / static_cast<float>(kTop - zero);
  if (zero > 0) scale = std::max(scale, -range.low / static_cast<float>(zero));
  return scale;
}

constexpr float kFactors[] = {1.0f, 0.93f, 0.86f, 0.78f, 0.68f};
constexpr int kDescents = 3;
constexpr int kReach = 2;  // zero points tried on either side of the plain one

Coded search(const Piece& piece, const Range& range) {
  Coded best{nearest_f16_scale(range.scale()), range.zero()};
  double best_error = probe(piece, best.scale, codes_of(best.zero)).error;
  for (int zero = std::max(0, range.zero() - kReach); zero <= std::min(kTop, range.zero() + kReach); ++zero) {
    const float covering = covering_scale(range, zero);
    if (covering == 0) continue;
    const auto probe_at = [&](float scale) { return probe(piece, scale, codes_of(zero)); };
    Fit fit{0, HUGE_VAL};
    for (const float factor : kFactors) {
      const Fit tried = probe_at(nearest_f16_scale(factor * covering));
      if (tried.error < fit.error) fit = tried;
    }
    fit = descend(fit, kDescents, probe_at, [](float s) { return std::fabs(nearest_f16_scale(s)); });
    if (fit.error < best_error) {
      best = {fit.scale, zero};
      best_error = fit.error;
    }
  }
  return best;
}

Result<Coded> fit_block(const EncodeInput& input, int64_t at) {
  const Extremes extremes = extremes_of(input.weights + at);
  const Range range{std::min(extremes.min, 0.0f), std::max(extremes.max, 0.0f)};
  TRY(const float stored, checked_f16(Scheme::kI4G32Z, range.scale(), at));
  if (extremes.magnitude == 0 || input.method == EncodeMethod::kAbsMax) return Coded{stored, range.zero()};
  const BlockImportance importance(input.importance, at);
  return search({input.weights + at, importance.values(), kBlock}, range);
}

}  // namespace

Status encode_i4g32z(const EncodeInput& input, std::byte* out) {
  for (int64_t at = 0; at < input.columns; at += kBlock, out += kBytes) {
    TRY(const Coded coded, fit_block(input, at));
    Codes32 codes;
    codes.fill(static_cast<uint8_t>(coded.zero));
    if (coded.scale != 0)
      codes = integer_codes(input.weights + at, coded.scale, codes_of(coded.zero), coded.zero);
    store_f16(coded.scale, out);
    out[2] = static_cast<std::byte>(coded.zero);
    pack_nibbles(codes, out + 3);
  }
  return {};
}

float half_step_i4g32z(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, kBytes, 1);
}

}  // namespace fettle::quant
