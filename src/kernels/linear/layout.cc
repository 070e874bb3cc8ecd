#include "kernels/linear/layout.h"

#include <cstring>
#include <span>

#include "base/check.h"

namespace fettle {
namespace {

// A canonical block is a sequence of fields, each `count` elements of 1, 2 or 4 bytes that stay together. A
// tile holds, for each block, for each field, for each element, the element of the 16 rows. So the bytes of
// the field at offset o of a block begin at 16 * o of the tile's block, and the layout is a bijection because
// the fields cover the block.
struct Field {
  int bytes;
  int64_t count;
};

constexpr Field kWord{2, 1};
constexpr Field kQ4_0[] = {kWord, {4, 4}};
constexpr Field kQ4_1[] = {kWord, kWord, {4, 4}};
constexpr Field kQ5_0[] = {kWord, {4, 1}, {4, 4}};
constexpr Field kQ5_1[] = {kWord, kWord, {4, 1}, {4, 4}};
constexpr Field kQ8_0[] = {kWord, {4, 8}};
constexpr Field kQ2K[] = {{4, 4}, {4, 16}, kWord, kWord};
constexpr Field kQ3K[] = {{4, 8}, {4, 16}, {4, 3}, kWord};
constexpr Field kQ4K[] = {kWord, kWord, {4, 3}, {4, 32}};
constexpr Field kQ5K[] = {kWord, kWord, {4, 3}, {4, 8}, {4, 32}};
constexpr Field kQ6K[] = {{4, 32}, {4, 16}, {4, 4}, kWord};
constexpr Field kMXFP4[] = {{1, 1}, {4, 4}};
constexpr Field kI4G32Z[] = {kWord, {1, 1}, {4, 4}};
constexpr Field kF32[] = {{4, 1}};
constexpr Field kF16[] = {{2, 1}};

std::span<const Field> block_fields(Scheme scheme) {
  switch (scheme) {
    case Scheme::kF32:
      return kF32;
    case Scheme::kF16:
      return kF16;
    case Scheme::kQ4_0:
    case Scheme::kIQ4_NL:
    case Scheme::kI4G32:
      return kQ4_0;
    case Scheme::kQ4_1:
      return kQ4_1;
    case Scheme::kQ5_0:
      return kQ5_0;
    case Scheme::kQ5_1:
      return kQ5_1;
    case Scheme::kQ8_0:
      return kQ8_0;
    case Scheme::kQ2_K:
      return kQ2K;
    case Scheme::kQ3_K:
      return kQ3K;
    case Scheme::kQ4_K:
      return kQ4K;
    case Scheme::kQ5_K:
      return kQ5K;
    case Scheme::kQ6_K:
      return kQ6K;
    case Scheme::kMXFP4:
      return kMXFP4;
    case Scheme::kI4G32Z:
      return kI4G32Z;
    case Scheme::kBF16:
    case Scheme::kI8C:
    case Scheme::kF8B128:
      break;  // dword_rows()
  }
  return {};
}

// Schemes whose row is one run of dwords, the last of which a row may fill only in part: two bf16, or scale
// and four int8, or four e4m3 and then the scales.
bool dword_rows(Scheme scheme) {
  return scheme == Scheme::kBF16 || scheme == Scheme::kI8C || scheme == Scheme::kF8B128;
}

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Dwords a row of dword_rows(); int8 codes are padded to whole groups of 32, the step of the kernels.
int64_t row_dwords(Scheme scheme, int64_t k) {
  if (scheme == Scheme::kF8B128) return row_bytes(scheme, k) / 4;
  return scheme == Scheme::kBF16 ? (k + 1) / 2 : 1 + round_up(k, 32) / 4;
}

template <typename T>
void interleave(const std::byte* rows, int64_t row_stride, int64_t row_count, int64_t count,
                std::byte* tile) {
  for (int64_t e = 0; e < count; ++e)
    for (int64_t r = 0; r < kTileRows; ++r, tile += sizeof(T)) {
      if (r < row_count)
        std::memcpy(tile, rows + r * row_stride + e * static_cast<int64_t>(sizeof(T)), sizeof(T));
      else
        std::memset(tile, 0, sizeof(T));
    }
}

template <typename T>
void deinterleave(const std::byte* tile, int64_t row_count, int64_t count, std::byte* rows,
                  int64_t row_stride) {
  for (int64_t e = 0; e < count; ++e, tile += kTileRows * sizeof(T))
    for (int64_t r = 0; r < row_count; ++r)
      std::memcpy(rows + r * row_stride + e * static_cast<int64_t>(sizeof(T)),
                  tile + r * static_cast<int64_t>(sizeof(T)), sizeof(T));
}

void pack_dword_rows(Scheme scheme, const std::byte* rows, int64_t row_stride, int64_t row_count, int64_t k,
                     std::byte* tile) {
  const int64_t bytes = row_bytes(scheme, k), whole = bytes / 4, dwords = row_dwords(scheme, k);
  interleave<uint32_t>(rows, row_stride, row_count, whole, tile);
  tile += whole * 4 * kTileRows;
  std::memset(tile, 0, static_cast<size_t>((dwords - whole) * 4 * kTileRows));
  for (int64_t r = 0; r < row_count; ++r)
    std::memcpy(tile + r * 4, rows + r * row_stride + whole * 4, static_cast<size_t>(bytes % 4));
}

void unpack_dword_rows(Scheme scheme, const std::byte* tile, int64_t row_count, int64_t k, std::byte* rows,
                       int64_t row_stride) {
  const int64_t bytes = row_bytes(scheme, k), whole = bytes / 4;
  deinterleave<uint32_t>(tile, row_count, whole, rows, row_stride);
  tile += whole * 4 * kTileRows;
  for (int64_t r = 0; r < row_count; ++r)
    std::memcpy(rows + r * row_stride + whole * 4, tile + r * 4, static_cast<size_t>(bytes % 4));
}

int64_t used_tile_bytes(Scheme scheme, int64_t k) {
  return kTileRows * (dword_rows(scheme) ? row_dwords(scheme, k) * 4 : row_bytes(scheme, k));
}

}  // namespace

int64_t packed_tile_bytes(Scheme scheme, int64_t k) {
  CHECK(row_fits(scheme, k), "scheme {}, k {}", static_cast<int>(scheme), k);
  return round_up(used_tile_bytes(scheme, k), 64);
}

void pack_tile(Scheme scheme, const std::byte* rows, int64_t row_stride, int64_t row_count, int64_t k,
               std::byte* tile) {
  CHECK(row_fits(scheme, k) && row_count > 0 && row_count <= kTileRows, "k {}, rows {}", k, row_count);
  const int64_t used = used_tile_bytes(scheme, k);
  std::memset(tile + used, 0, static_cast<size_t>(packed_tile_bytes(scheme, k) - used));
  if (dword_rows(scheme)) return pack_dword_rows(scheme, rows, row_stride, row_count, k, tile);

  const std::span<const Field> fields = block_fields(scheme);
  const int64_t blocks = k / scheme_info(scheme).block_elems;
  for (int64_t b = 0; b < blocks; ++b)
    for (const Field& field : fields) {
      if (field.bytes == 4) interleave<uint32_t>(rows, row_stride, row_count, field.count, tile);
      if (field.bytes == 2) interleave<uint16_t>(rows, row_stride, row_count, field.count, tile);
      if (field.bytes == 1) interleave<uint8_t>(rows, row_stride, row_count, field.count, tile);
      rows += field.bytes * field.count;
      tile += field.bytes * field.count * kTileRows;
    }
}

void unpack_tile(Scheme scheme, const std::byte* tile, int64_t row_count, int64_t k, std::byte* rows,
                 int64_t row_stride) {
  CHECK(row_fits(scheme, k) && row_count > 0 && row_count <= kTileRows, "k {}, rows {}", k, row_count);
  if (dword_rows(scheme)) return unpack_dword_rows(scheme, tile, row_count, k, rows, row_stride);

  const std::span<const Field> fields = block_fields(scheme);
  const int64_t blocks = k / scheme_info(scheme).block_elems;
  for (int64_t b = 0; b < blocks; ++b)
    for (const Field& field : fields) {
      if (field.bytes == 4) deinterleave<uint32_t>(tile, row_count, field.count, rows, row_stride);
      if (field.bytes == 2) deinterleave<uint16_t>(tile, row_count, field.count, rows, row_stride);
      if (field.bytes == 1) deinterleave<uint8_t>(tile, row_count, field.count, rows, row_stride);
      rows += field.bytes * field.count;
      tile += field.bytes * field.count * kTileRows;
    }
}

}  // namespace fettle
