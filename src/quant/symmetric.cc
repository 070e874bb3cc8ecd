// Blocks of 32 with one fp16 scale and whole codes around zero: Q4_0, Q5_0, Q8_0 and i4g32 (whose bytes are
// those of Q4_0). The codes of Q4_0 and Q5_0 reach one further below zero than above, so both signs of the
// scale are tried.
#include "quant/block.h"

namespace fettle::quant {

namespace {

struct Rule {
  Scheme scheme;
  int low, high;  // code values
  bool signed_scale() const { return -low != high; }
};
constexpr Rule kQ4{Scheme::kQ4_0, -8, 7};
constexpr Rule kI4{Scheme::kI4G32, -8, 7};
constexpr Rule kQ5{Scheme::kQ5_0, -16, 15};
constexpr Rule kQ8{Scheme::kQ8_0, -127, 127};

struct Coded {
  float scale;  // as stored
  Codes32 codes;
};

// ggml's plain rule. It divides by the scale before that is rounded to fp16, and rounds halves away from the
// lowest code.
float absmax_scale(const Rule& rule, const Extremes& e) {
  return rule.signed_scale() ? e.signed_max / static_cast<float>(rule.low)
                             : e.magnitude / static_cast<float>(rule.high);
}

Codes32 absmax_codes(const Rule& rule, const float* block, float scale) {
  Codes32 codes;
  const float inverse = 1.0f / scale;
  for (int i = 0; i < kBlock; ++i) {
    const float x = block[i] * inverse;
    const int q = rule.signed_scale() ? static_cast<int>(x + (static_cast<float>(-rule.low) + 0.5f))
                                      : static_cast<int>(std::round(x));
    codes[i] = static_cast<uint8_t>(rule.signed_scale() ? std::min(q, rule.high - rule.low) : q);
  }
  return codes;
}

// Scales to try, as factors of the one at which the lowest code reaches the largest weight. Factors above 1
// bring the largest weight within the reach of the highest code.
constexpr float kFactors4[] = {1.14f, 1.09f, 1.05f, 1.0f,  0.96f, 0.92f,
                               0.88f, 0.84f, 0.79f, 0.74f, 0.67f, 0.6f};
constexpr float kFactors5[] = {1.07f, 1.05f, 1.03f, 1.01f, 1.0f,  0.98f, 0.96f,
                               0.93f, 0.9f,  0.86f, 0.81f, 0.75f, 0.68f};
constexpr float kFactors8[] = {1.0f,   0.998f, 0.996f, 0.994f, 0.992f, 0.99f,
                               0.985f, 0.98f,  0.97f,  0.95f,  0.9f,   0.8f};
constexpr int kDescents = 3;

template <size_t kCount>
Fit search_scale(const Rule& rule, const Piece& piece, float absmax, const float (&factors)[kCount]) {
  const IntegerCodes codes{static_cast<float>(rule.low), static_cast<float>(rule.high)};
  const auto probe_at = [&](float scale) { return probe(piece, scale, codes); };
  Fit best = probe_at(nearest_f16_scale(absmax));
  for (const float sign : {1.0f, -1.0f}) {
    if (sign < 0 && !rule.signed_scale()) break;
    Fit best_of_sign{0, HUGE_VAL};
    for (const float factor : factors) {
      const Fit fit = probe_at(nearest_f16_scale(sign * factor * absmax));
      if (fit.error < best_of_sign.error) best_of_sign = fit;
    }
    best_of_sign = descend(best_of_sign, kDescents, probe_at, nearest_f16_scale);
    if (best_of_sign.error < best.error) best = best_of_sign;
  }
  return best;
}

template <size_t kCount>
Result<Coded> encode_block(const Rule& rule, const EncodeInput& input, int64_t at,
                           const float (&factors)[kCount]) {
  const float* block = input.weights + at;
  const int offset = rule.signed_scale() ? -rule.low : 0;
  const Extremes extremes = extremes_of(block);
  const float absmax = absmax_scale(rule, extremes);
  TRY(float stored, checked_f16(rule.scheme, absmax, at));
  Coded coded{stored, {}};
  coded.codes.fill(static_cast<uint8_t>(offset));
  if (extremes.magnitude == 0) return coded;
  if (input.method == EncodeMethod::kAbsMax) {
    if (stored != 0) coded.codes = absmax_codes(rule, block, absmax);
    return coded;
  }
  const BlockImportance importance(input.importance, at);
  coded.scale = search_scale(rule, {block, importance.values(), kBlock}, absmax, factors).scale;
  coded.codes = integer_codes(block, coded.scale,
                              {static_cast<float>(rule.low), static_cast<float>(rule.high)}, offset);
  return coded;
}

template <size_t kCount, typename Pack>
Status encode_row(const Rule& rule, const EncodeInput& input, std::byte* out, const float (&factors)[kCount],
                  Pack pack) {
  const int block_bytes = scheme_info(rule.scheme).block_bytes;
  for (int64_t at = 0; at < input.columns; at += kBlock, out += block_bytes) {
    TRY(const Coded coded, encode_block(rule, input, at, factors));
    store_f16(coded.scale, out);
    pack(coded.codes, out + 2);
  }
  return {};
}

}  // namespace

Status encode_q4_0(const EncodeInput& input, std::byte* out) {
  return encode_row(kQ4, input, out, kFactors4, pack_nibbles);
}
Status encode_i4g32(const EncodeInput& input, std::byte* out) {
  return encode_row(kI4, input, out, kFactors4, pack_nibbles);
}
Status encode_q5_0(const EncodeInput& input, std::byte* out) {
  return encode_row(kQ5, input, out, kFactors5, [](const Codes32& codes, std::byte* to) {
    pack_fifth_bits(codes, to);
    pack_nibbles(codes, to + 4);
  });
}
Status encode_q8_0(const EncodeInput& input, std::byte* out) {
  return encode_row(kQ8, input, out, kFactors8,
                    [](const Codes32& codes, std::byte* to) { std::memcpy(to, codes.data(), codes.size()); });
}

float half_step_q4_0(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, 18, 1);
}
float half_step_i4g32(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, 18, 1);
}
float half_step_q5_0(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, 22, 1);
}
float half_step_q8_0(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, 34, 1);
}

}  // namespace fettle::quant
