// Blocks of 32 weights with fp16 scales: reading a row block by block, and packing codes the way ggml does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "quant/encoder.h"
#include "quant/fit.h"

namespace fettle::quant {

constexpr int kBlock = 32;
constexpr float kF16Max = 65504.0f;
constexpr float kF16Min = 0x1p-24f;  // the smallest positive fp16

using Codes32 = std::array<uint8_t, kBlock>;

struct Extremes {
  float min, max;
  float magnitude;   // largest |w|
  float signed_max;  // the weight of that magnitude; the first, if several
};
Extremes extremes_of(const float* block);

// Importance of one block, scaled to a maximum of 1 so that no sum leaves the range of fp32; all 1 where it
// is absent or all zero.
class BlockImportance {
 public:
  BlockImportance(const float* importance, int64_t at);
  const float* values() const { return values_; }

 private:
  float buffer_[kBlock];
  const float* values_;
};

// The fp16 value nearest to a scale, but neither zero nor infinite: such a scale can always be divided by.
float nearest_f16_scale(float scale);
// The scale as fp16 keeps it (may be zero), or an error saying which columns hold weights too large for it.
Result<float> checked_f16(Scheme scheme, float value, int64_t first_column);

// The block's codes for one scale: nearest code values plus `offset`.
Codes32 integer_codes(const float* block, float scale, IntegerCodes codes, int offset);

void store_f16(float value, std::byte* out);
float load_f16(const std::byte* in);
void pack_nibbles(const Codes32& codes, std::byte* out);  // 16 bytes: low nibbles are 0..15, high ones 16..31
void pack_fifth_bits(const Codes32& codes, std::byte* out);  // 4 bytes: bit e is bit 4 of code e

// Half of `gap` (in units of the scale) times the largest |scale| of a row whose blocks begin with an fp16
// scale.
float half_step_of_blocks(const std::byte* row, int64_t columns, int block_bytes, float gap);

}  // namespace fettle::quant
