// The packed layout `n16` of a weight matrix: tiles of 16 rows; within a tile, group after group along k;
// within a group the 16 rows interleaved so that one vector register holds the same four (int8, e4m3), two
// (bf16) or one (fp32) k of 16 rows. pack and unpack are inverse to each other on every byte of the canonical
// row layout, padding excepted.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/scheme.h"

namespace fettle {

inline constexpr int64_t kTileRows = 16;
inline int64_t tile_count(int64_t n) { return (n + kTileRows - 1) / kTileRows; }

int64_t packed_tile_bytes(Scheme scheme, int64_t k);  // a multiple of 64
inline int64_t packed_bytes(Scheme scheme, int64_t n, int64_t k) {
  return tile_count(n) * packed_tile_bytes(scheme, k);
}

// rows: min(16, n - 16*tile) canonical rows, `row_stride` bytes apart -> one tile. Missing rows become zeros.
void pack_tile(Scheme scheme, const std::byte* rows, int64_t row_stride, int64_t row_count, int64_t k,
               std::byte* tile);
// One tile -> its first row_count canonical rows.
void unpack_tile(Scheme scheme, const std::byte* tile, int64_t row_count, int64_t k, std::byte* rows,
                 int64_t row_stride);

}  // namespace fettle
