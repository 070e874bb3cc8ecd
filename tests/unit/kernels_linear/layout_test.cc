#include <gtest/gtest.h>

#include "cases.h"

namespace fettle {
namespace {

std::vector<int64_t> widths(Scheme scheme) {
  const int block = scheme_info(scheme).block_elems;
  if (block == 256) return {256, 768};
  if (block == 32) return {32, 96, 544};
  return {1, 2, 3, 24, 31, 96, 257};
}

// Any bytes at all must come back, whatever they mean.
TEST(Layout, UnpackUndoesPackOnRandomBytes) {
  cases::Rng rng(1);
  std::uniform_int_distribution<int> byte(0, 255);
  for (const SchemeInfo& info : all_schemes())
    for (int64_t k : widths(info.scheme))
      for (int64_t rows : {1, 7, 16}) {
        const int64_t stride = row_bytes(info.scheme, k);
        cases::Bytes in(rows * stride), out(rows * stride), tile(packed_tile_bytes(info.scheme, k));
        for (int64_t i = 0; i < in.size(); ++i) in.data()[i] = static_cast<std::byte>(byte(rng));
        pack_tile(info.scheme, in.data(), stride, rows, k, tile.data());
        unpack_tile(info.scheme, tile.data(), rows, k, out.data(), stride);
        EXPECT_EQ(std::memcmp(in.data(), out.data(), static_cast<size_t>(in.size())), 0)
            << info.name << " k " << k << " rows " << rows;
      }
}

// Packing is also onto: what is not a row's byte is zero, so equal matrices have equal packed bytes.
TEST(Layout, PackWritesEveryByteOfTheTile) {
  cases::Rng rng(2);
  for (const SchemeInfo& info : all_schemes())
    for (int64_t k : widths(info.scheme)) {
      const cases::Bytes rows = cases::weights(info.scheme, 5, k, rng);
      cases::Bytes a(packed_tile_bytes(info.scheme, k)), b(packed_tile_bytes(info.scheme, k));
      std::memset(b.data(), 0xee, static_cast<size_t>(b.size()));
      pack_tile(info.scheme, rows.data(), row_bytes(info.scheme, k), 5, k, a.data());
      pack_tile(info.scheme, rows.data(), row_bytes(info.scheme, k), 5, k, b.data());
      EXPECT_EQ(std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size())), 0) << info.name << " k " << k;
    }
}

TEST(Layout, TilesAreWholeCacheLinesAndCostAlmostNothing) {
  for (const SchemeInfo& info : all_schemes()) {
    const int64_t tile = packed_tile_bytes(info.scheme, 1024), rows = 16 * row_bytes(info.scheme, 1024);
    EXPECT_EQ(tile % 64, 0) << info.name;
    EXPECT_GE(tile, rows) << info.name;
    EXPECT_LT(tile, rows + 64) << info.name;
  }
}

TEST(Layout, FourCodesOfSixteenRowsShareAVector) {
  cases::Bytes rows(16 * 18), tile(packed_tile_bytes(Scheme::kQ4_0, 32));
  for (int64_t r = 0; r < 16; ++r)
    for (int64_t i = 0; i < 18; ++i)
      rows.data()[r * 18 + i] = static_cast<std::byte>(16 * r + std::min<int64_t>(i, 15));
  pack_tile(Scheme::kQ4_0, rows.data(), 18, 16, 32, tile.data());
  for (int64_t r = 0; r < 16; ++r) {
    EXPECT_EQ(tile.data()[2 * r], rows.data()[r * 18]);           // the f16 scale
    EXPECT_EQ(tile.data()[32 + 4 * r], rows.data()[r * 18 + 2]);  // the first four bytes of codes
    EXPECT_EQ(tile.data()[32 + 64 + 4 * r], rows.data()[r * 18 + 6]);
  }
}

}  // namespace
}  // namespace fettle
