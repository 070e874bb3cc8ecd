// Q4_1 and Q5_1: blocks of 32, value q*d + m with d and m in fp16. The search refines d and m together by
// weighted least squares.
#include "quant/block.h"

namespace fettle::quant {

namespace {

struct Rule {
  Scheme scheme;
  float top;         // the highest code
  bool limit_codes;  // ggml limits the codes of Q4_1 only
};
constexpr Rule kQ4{Scheme::kQ4_1, 15, true};
constexpr Rule kQ5{Scheme::kQ5_1, 31, false};

struct Line {
  float scale, offset;
  bool operator==(const Line&) const = default;
};

struct LineFit {
  Line line;
  double error = HUGE_VAL;
  double r = 0, qr = 0, q = 0, qq = 0,
         ones = 0;  // weighted sums of residual, code * residual, code, code^2, 1

  // The least-squares line for these codes, from the normal equations.
  Line best_line() const {
    const double determinant = qq * ones - q * q;
    if (determinant <= 1e-6 * qq * ones) return {line.scale, line.offset + static_cast<float>(r / ones)};
    return {line.scale + static_cast<float>((ones * qr - q * r) / determinant),
            line.offset + static_cast<float>((qq * r - q * qr) / determinant)};
  }
};

Lanes nearest_codes(Lanes w, const Line& line, float inverse, float top) {
  return IntegerCodes{0, top}((w - line.offset) * inverse);
}

LineFit probe_line(const Piece& piece, const Line& line, float top) {
  const float inverse = 1.0f / line.scale;
  Lanes error{}, sum_r{}, sum_qr{}, sum_q{}, sum_qq{}, ones{};
  for (int at = 0; at < piece.count; at += kLanes) {
    const Lanes w = load_lanes(piece.weights + at);
    const Lanes i = load_lanes(piece.importance + at);
    const Lanes q = nearest_codes(w, line, inverse, top);
    const Lanes r = w - (q * line.scale + line.offset);
    const Lanes ir = i * r, iq = i * q;
    error += ir * r;
    sum_r += ir;
    sum_qr += q * ir;
    sum_q += iq;
    sum_qq += iq * q;
    ones += i;
  }
  return {line, sum(error), sum(sum_r), sum(sum_qr), sum(sum_q), sum(sum_qq), sum(ones)};
}

// fp16 offsets may be zero, scales not; both signs of a scale are the same set of lines, so it stays
// positive.
Line stored_line(const Line& line) {
  const float offset = std::fabs(line.offset) < kF16Min / 2 ? 0.0f : nearest_f16_scale(line.offset);
  return {std::fabs(nearest_f16_scale(line.scale)), offset};
}

// How much of the range is cut off, at the low and at the high end.
struct Cut {
  float low, high;
};
constexpr Cut kCuts[] = {{0, 0},     {0.05f, 0},     {0, 0.05f},     {0.05f, 0.05f}, {0.12f, 0},
                         {0, 0.12f}, {0.12f, 0.05f}, {0.05f, 0.12f}, {0.12f, 0.12f}, {-0.03f, -0.03f}};
constexpr int kDescents = 4;

LineFit descend_line(LineFit best, const Piece& piece, float top) {
  for (int step = 0; step < kDescents; ++step) {
    const Line next = stored_line(best.best_line());
    if (next == best.line) break;
    const LineFit fit = probe_line(piece, next, top);
    if (!(fit.error < best.error)) break;
    best = fit;
  }
  return best;
}

Line search(const Piece& piece, const Extremes& e, const Line& plain, float top) {
  LineFit best = probe_line(piece, stored_line(plain), top);
  LineFit second = best;
  const float range = e.max - e.min;
  for (const Cut& cut : kCuts) {
    const Line line{range * (1 - cut.low - cut.high) / top, e.min + cut.low * range};
    const LineFit fit = probe_line(piece, stored_line(line), top);
    if (fit.error < best.error) {
      second = best;
      best = fit;
    } else if (fit.error < second.error) {
      second = fit;
    }
  }
  best = descend_line(best, piece, top);
  second = descend_line(second, piece, top);
  return second.error < best.error ? second.line : best.line;
}

Codes32 plain_codes(const Rule& rule, const float* block, const Extremes& e, float scale) {
  Codes32 codes{};
  const float inverse = 1.0f / scale;
  for (int i = 0; i < kBlock; ++i) {
    const int q = static_cast<int>((block[i] - e.min) * inverse + 0.5f);
    codes[i] = static_cast<uint8_t>(rule.limit_codes ? std::min(q, static_cast<int>(rule.top)) : q);
  }
  return codes;
}

Codes32 line_codes(const float* block, const Line& line, float top) {
  Codes32 codes;
  for (int i = 0; i < kBlock; i += kLanes) {
    const Lanes q = nearest_codes(load_lanes(block + i), line, 1.0f / line.scale, top);
    for (int l = 0; l < kLanes; ++l) codes[i + l] = static_cast<uint8_t>(q[l]);
  }
  return codes;
}

Status encode_block(const Rule& rule, const EncodeInput& input, int64_t at, std::byte* out, Codes32* codes) {
  const float* block = input.weights + at;
  const Extremes e = extremes_of(block);
  const float scale = (e.max - e.min) / rule.top;
  TRY(const float stored_scale, checked_f16(rule.scheme, scale, at));
  TRY(const float stored_offset, checked_f16(rule.scheme, e.min, at));
  Line line{stored_scale, stored_offset};
  codes->fill(0);
  if (input.method == EncodeMethod::kAbsMax) {
    if (stored_scale != 0) *codes = plain_codes(rule, block, e, scale);
  } else if (e.magnitude != 0) {
    const BlockImportance importance(input.importance, at);
    line = search({block, importance.values(), kBlock}, e, {scale, e.min}, rule.top);
    *codes = line_codes(block, line, rule.top);
  }
  store_f16(line.scale, out);
  store_f16(line.offset, out + 2);
  return {};
}

}  // namespace

Status encode_q4_1(const EncodeInput& input, std::byte* out) {
  for (int64_t at = 0; at < input.columns; at += kBlock, out += 20) {
    Codes32 codes;
    TRY_STATUS(encode_block(kQ4, input, at, out, &codes));
    pack_nibbles(codes, out + 4);
  }
  return {};
}

Status encode_q5_1(const EncodeInput& input, std::byte* out) {
  for (int64_t at = 0; at < input.columns; at += kBlock, out += 24) {
    Codes32 codes;
    TRY_STATUS(encode_block(kQ5, input, at, out, &codes));
    pack_fifth_bits(codes, out + 4);
    pack_nibbles(codes, out + 8);
  }
  return {};
}

float half_step_q4_1(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, 20, 1);
}
float half_step_q5_1(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, 24, 1);
}

}  // namespace fettle::quant
