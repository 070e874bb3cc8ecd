// e4m3 weights under a scale for a block of rows and columns, as checkpoints of 128 x 128 blocks have them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/float_groups.h"

namespace fettle::quant {

// The scale at which the block's largest weight is 448, or the next power of two; 1 for a block of zeros. The
// block is `rows` runs of `cols` weights, `ld` apart.
float f8_block_scale(const float* weights, int64_t rows, int64_t cols, int64_t ld, ScaleFormat format);

// codes[i] = e4m3(weights[i] / scale), to nearest even and saturating.
void f8_encode(const float* weights, int64_t count, float scale, std::byte* codes);

}  // namespace fettle::quant
