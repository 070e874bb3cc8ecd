#include "quant/block.h"

#include "tensor/numbers.h"

namespace fettle::quant {

Extremes extremes_of(const float* block) {
  Extremes e{block[0], block[0], 0, 0};
  for (int i = 0; i < kBlock; ++i) {
    e.min = std::min(e.min, block[i]);
    e.max = std::max(e.max, block[i]);
  }
  e.magnitude = std::max(-e.min, e.max);
  int first = 0;
  while (std::fabs(block[first]) != e.magnitude) ++first;
  e.signed_max = block[first];
  return e;
}

BlockImportance::BlockImportance(const float* importance, int64_t at) : values_(buffer_) {
  static constexpr auto kOnes = [] {
    std::array<float, kBlock> ones{};
    for (float& one : ones) one = 1;
    return ones;
  }();
  float largest = 0;
  if (importance) {
    importance += at;
    for (int i = 0; i < kBlock; ++i) largest = std::max(largest, importance[i]);
  }
  if (largest == 0) {
    values_ = kOnes.data();
    return;
  }
  for (int i = 0; i < kBlock; ++i) buffer_[i] = importance[i] / largest;
}

float nearest_f16_scale(float scale) {
  const float magnitude = std::clamp(std::fabs(scale), kF16Min, kF16Max);
  return std::copysign(f16_to_f32(f32_to_f16(magnitude)), scale);
}

Result<float> checked_f16(Scheme scheme, float value, int64_t first_column) {
  const float stored = f16_to_f32(f32_to_f16(value));
  if (std::isinf(stored))
    return unsupported(
        "columns {}..{} need {} in a scale or offset of {}, and fp16 ends at {}; use i8c or bf16 for this "
        "matrix",
        first_column, first_column + kBlock - 1, value, scheme_name(scheme), kF16Max);
  return stored;
}

Codes32 integer_codes(const float* block, float scale, IntegerCodes codes, int offset) {
  Codes32 out;
  const float inverse = 1.0f / scale;
  for (int i = 0; i < kBlock; i += kLanes) {
    const Lanes q = codes(load_lanes(block + i) * inverse);
    for (int l = 0; l < kLanes; ++l) out[i + l] = static_cast<uint8_t>(static_cast<int>(q[l]) + offset);
  }
  return out;
}

void store_f16(float value, std::byte* out) {
  const uint16_t code = f32_to_f16(value);
  std::memcpy(out, &code, sizeof code);
}

float load_f16(const std::byte* in) {
  uint16_t code;
  std::memcpy(&code, in, sizeof code);
  return f16_to_f32(code);
}

void pack_nibbles(const Codes32& codes, std::byte* out) {
  for (int i = 0; i < kBlock / 2; ++i)
    out[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + kBlock / 2] & 15) << 4);
}

void pack_fifth_bits(const Codes32& codes, std::byte* out) {
  uint32_t bits = 0;
  for (int i = 0; i < kBlock; ++i) bits |= static_cast<uint32_t>(codes[i] >> 4 & 1) << i;
  std::memcpy(out, &bits, sizeof bits);
}

float half_step_of_blocks(const std::byte* row, int64_t columns, int block_bytes, float gap) {
  float largest = 0;
  for (int64_t at = 0; at < columns; at += kBlock, row += block_bytes)
    largest = std::max(largest, std::fabs(load_f16(row)));
  return 0.5f * gap * largest;
}

}  // namespace fettle::quant
