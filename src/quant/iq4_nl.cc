// IQ4_NL: blocks of 32, one fp16 scale, codes that point into a fixed table of sixteen uneven values.
#include "quant/block.h"

namespace fettle::quant {

namespace {

constexpr int kBytes = 18;
constexpr float kGap = 24;  // the widest gap of the table, 89 to 113
constexpr float kLow = -127, kHigh = 113;

// The table, read off the decoder, and the nearest code for every half unit: the middles between neighbouring
// values are multiples of a half, so all of a cell [n/2, n/2 + 1/2) has the same nearest value.
struct Codebook {
  static constexpr int kCells = 512, kZeroCell = 256;
  float values[16];
  uint8_t code_of_cell[kCells];
  float value_of_cell[kCells];

  Codebook() {
    std::byte block[kBytes];
    Codes32 codes{};
    float decoded[kBlock];
    for (int i = 0; i < 16; ++i) codes[i] = static_cast<uint8_t>(i);
    store_f16(1, block);
    pack_nibbles(codes, block + 2);
    scheme_info(Scheme::kIQ4_NL).decode_row(block, kBlock, decoded);
    std::copy(decoded, decoded + 16, values);
    int code = 0;
    for (int cell = 0; cell < kCells; ++cell) {
      const float x = 0.5f * static_cast<float>(cell - kZeroCell);
      while (code < 15 && x >= 0.5f * (values[code] + values[code + 1])) ++code;
      code_of_cell[cell] = static_cast<uint8_t>(code);
      value_of_cell[cell] = values[code];
    }
  }

  static int cell(float x) {
    return static_cast<int>(2 * std::clamp(x, kLow, kHigh) +
                            static_cast<float>(kZeroCell));  // positive: truncation is floor
  }
};

const Codebook& codebook() {
  static const Codebook book;
  return book;
}

struct TableCodes {
  const Codebook& book;
  Lanes operator()(Lanes x) const {
    Lanes q;
    for (int l = 0; l < kLanes; ++l) q[l] = book.value_of_cell[Codebook::cell(x[l])];
    return q;
  }
};

constexpr float kFactors[] = {1.1f, 1.05f, 1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.74f};
constexpr int kDescents = 3;

float search_scale(const Piece& piece, float plain) {
  const auto probe_at = [&](float scale) { return probe(piece, scale, TableCodes{codebook()}); };
  // The table has no zero, so weights below the smallest scale are best served by a scale of zero.
  Fit best{0};
  for (int i = 0; i < piece.count; ++i)
    best.error += static_cast<double>(piece.importance[i] * piece.weights[i] * piece.weights[i]);
  if (const Fit fit = probe_at(nearest_f16_scale(plain)); fit.error < best.error) best = fit;
  for (const float sign : {1.0f, -1.0f}) {
    Fit best_of_sign{0, HUGE_VAL};
    for (const float factor : kFactors) {
      const Fit fit = probe_at(nearest_f16_scale(sign * factor * plain));
      if (fit.error < best_of_sign.error) best_of_sign = fit;
    }
    best_of_sign = descend(best_of_sign, kDescents, probe_at, nearest_f16_scale);
    if (best_of_sign.error < best.error) best = best_of_sign;
  }
  return best.scale;
}

}  // namespace

Status encode_iq4_nl(const EncodeInput& input, std::byte* out) {
  const Codebook& book = codebook();
  for (int64_t at = 0; at < input.columns; at += kBlock, out += kBytes) {
    const float* block = input.weights + at;
    const Extremes extremes = extremes_of(block);
    const float plain = extremes.signed_max / kLow;
    TRY(float scale, checked_f16(Scheme::kIQ4_NL, plain, at));
    if (extremes.magnitude != 0 && input.method == EncodeMethod::kSearch) {
      const BlockImportance importance(input.importance, at);
      scale = search_scale({block, importance.values(), kBlock}, plain);
    }
    Codes32 codes{};
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    if (scale == 0)
      codes.fill(book.code_of_cell[Codebook::kZeroCell]);
    else
      for (int i = 0; i < kBlock; ++i) codes[i] = book.code_of_cell[Codebook::cell(block[i] * inverse)];
    store_f16(scale, out);
    pack_nibbles(codes, out + 2);
  }
  return {};
}

float half_step_iq4_nl(const std::byte* row, int64_t columns) {
  return half_step_of_blocks(row, columns, kBytes, kGap);
}

}  // namespace fettle::quant
