#include "tensor/scheme.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tables.h"
#include "tensor/dtype.h"
#include "tensor/matrix.h"
#include "tensor/numbers.h"

namespace fettle {
namespace {

class BlockFormat : public testing::TestWithParam<const char*> {};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Every block alone, then all blocks as one row: a row is nothing but its blocks.
TEST_P(BlockFormat, DecodesReferenceBlocks) {
  const std::string type = GetParam();
  const auto scheme = parse_scheme(lower(type));
  ASSERT_TRUE(scheme) << type;
  const SchemeInfo& info = scheme_info(*scheme);
  const std::vector<std::byte> raw = reference_table<std::byte>("raw/" + type);
  const std::vector<float> expected = reference_table<float>("f32/" + type);
  const size_t elems = static_cast<size_t>(info.block_elems), bytes = static_cast<size_t>(info.block_bytes);
  const size_t blocks = expected.size() / elems;
  ASSERT_EQ(raw.size(), blocks * bytes);
  ASSERT_GT(blocks, 0u);

  std::vector<float> row(expected.size());
  info.decode_row(raw.data(), static_cast<int64_t>(row.size()), row.data());
  for (size_t b = 0; b < blocks; ++b) {
    std::vector<float> block(elems);
    info.decode_row(raw.data() + b * bytes, info.block_elems, block.data());
    float largest = 0;
    for (size_t e = 0; e < elems; ++e) largest = std::max(largest, std::fabs(expected[b * elems + e]));
    for (size_t e = 0; e < elems; ++e) {
      EXPECT_NEAR(block[e], expected[b * elems + e], 1e-6f * largest)
          << type << " block " << b << " element " << e;
      EXPECT_EQ(std::bit_cast<uint32_t>(row[b * elems + e]), std::bit_cast<uint32_t>(block[e])) << type;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gguf, BlockFormat,
                         testing::Values("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K",
                                         "Q5_K", "Q6_K", "IQ4_NL", "MXFP4"));

TEST(Scheme, NamesAndSizesAgree) {
  std::set<std::string_view> names;
  EXPECT_EQ(all_schemes().size(), static_cast<size_t>(kSchemeCount));
  for (const SchemeInfo& info : all_schemes()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(parse_scheme(info.name), info.scheme);
    EXPECT_EQ(scheme_name(info.scheme), info.name);
    const double bits = 8.0 * static_cast<double>(row_bytes(info.scheme, 1 << 20)) / (1 << 20);
    EXPECT_NEAR(bits, info.bits_per_weight, 1e-4) << info.name;
  }
  EXPECT_FALSE(parse_scheme("q9_9"));
  EXPECT_FALSE(parse_scheme(""));
}

TEST(Scheme, RowsThatFit) {
  EXPECT_TRUE(row_fits(Scheme::kF32, 1));
  EXPECT_FALSE(row_fits(Scheme::kF32, 0));
  EXPECT_FALSE(row_fits(Scheme::kF32, -4));
  EXPECT_FALSE(row_fits(Scheme::kQ4_0, 48));
  EXPECT_TRUE(row_fits(Scheme::kQ4_0, 64));
  EXPECT_FALSE(row_fits(Scheme::kQ4_K, 128));
  EXPECT_TRUE(row_fits(Scheme::kI8C, 7));
  EXPECT_EQ(row_bytes(Scheme::kI8C, 7), 12);
  EXPECT_EQ(row_bytes(Scheme::kI8C, 8), 12);
  EXPECT_EQ(row_bytes(Scheme::kQ6_K, 512), 420);
  EXPECT_EQ(row_bytes(Scheme::kI4G32Z, 64), 38);
  EXPECT_TRUE(row_fits(Scheme::kF8B128, 1));
  EXPECT_FALSE(row_fits(Scheme::kF8B128, 0));
  EXPECT_EQ(row_bytes(Scheme::kF8B128, 1), 8);
  EXPECT_EQ(row_bytes(Scheme::kF8B128, 128), 132);
  EXPECT_EQ(row_bytes(Scheme::kF8B128, 130), 140);
  EXPECT_FALSE(is_float_scheme(Scheme::kF8B128));
}

TEST(Scheme, PlainFloats) {
  const float values[] = {1.0f, -2.5f, 0.0f};
  float out[3];
  scheme_info(Scheme::kF32).decode_row(reinterpret_cast<const std::byte*>(values), 3, out);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(out[i], values[i]);
  const uint16_t halves[] = {0x3c00, 0xc100, 0x0001};
  scheme_info(Scheme::kF16).decode_row(reinterpret_cast<const std::byte*>(halves), 3, out);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.5f);
  EXPECT_EQ(out[2], 0x1p-24f);
  const uint16_t brains[] = {0x3f80, 0xc020, 0x0001};
  scheme_info(Scheme::kBF16).decode_row(reinterpret_cast<const std::byte*>(brains), 3, out);
  EXPECT_EQ(out[1], -2.5f);
  EXPECT_EQ(out[2], 0x1p-133f);
}

TEST(Scheme, EightBitRowsWithAScale) {
  // f32 scale 0.25 | 1 -1 127 -128 5 | three zero bytes
  const uint8_t row[] = {0, 0, 0x80, 0x3e, 1, 0xff, 127, 0x80, 5, 0, 0, 0};
  ASSERT_EQ(row_bytes(Scheme::kI8C, 5), static_cast<int64_t>(sizeof row));
  const MatrixView view{.scheme = Scheme::kI8C,
                        .rows = 1,
                        .cols = 5,
                        .data = reinterpret_cast<const std::byte*>(row),
                        .owner = {}};
  EXPECT_EQ(view.decode(), (std::vector<float>{0.25f, -0.25f, 31.75f, -32.0f, 1.25f}));
}

// Every code under two scales, the second for a part of a block.
TEST(Scheme, EightBitFloatsUnderBlockScales) {
  const std::vector<float> values = reference_table<float>("code/e4m3");
  for (const int64_t k : {256, 255, 129, 1}) {
    std::vector<std::byte> row(static_cast<size_t>(row_bytes(Scheme::kF8B128, k)));
    for (int64_t i = 0; i < k; ++i) row[static_cast<size_t>(i)] = static_cast<std::byte>(i * 11);
    const float scales[2] = {0.3f, -1e-3f};
    std::memcpy(row.data() + f8_code_bytes(k), scales, static_cast<size_t>(4 * f8_blocks(k)));
    std::vector<float> out(static_cast<size_t>(k));
    scheme_info(Scheme::kF8B128).decode_row(row.data(), k, out.data());
    for (int64_t i = 0; i < k; ++i) {
      const float expected = values[static_cast<size_t>(i * 11 % 256)] * scales[i / 128];
      EXPECT_TRUE(std::isnan(expected) ? std::isnan(out[i]) : out[i] == expected) << k << " column " << i;
    }
  }
}

TEST(Scheme, FourBitGroups) {
  uint8_t symmetric[18] = {0x00, 0x38};  // d = 0.5
  for (int i = 0; i < 16; ++i) symmetric[2 + i] = static_cast<uint8_t>(i | (15 - i) << 4);
  float out[32];
  scheme_info(Scheme::kI4G32).decode_row(reinterpret_cast<const std::byte*>(symmetric), 32, out);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(out[i], 0.5f * static_cast<float>(i - 8));
    EXPECT_EQ(out[16 + i], 0.5f * static_cast<float>(7 - i));
  }
  uint8_t shifted[19] = {0x00, 0x38, 3};  // zero point 3
  for (int i = 0; i < 16; ++i) shifted[3 + i] = static_cast<uint8_t>(i | (15 - i) << 4);
  scheme_info(Scheme::kI4G32Z).decode_row(reinterpret_cast<const std::byte*>(shifted), 32, out);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(out[i], 0.5f * static_cast<float>(i - 3));
    EXPECT_EQ(out[16 + i], 0.5f * static_cast<float>(12 - i));
  }
}

// Any bytes decode: NaN and infinite scales give NaN and infinity, never anything undefined.
TEST(Scheme, DecodesArbitraryBytes) {
  uint32_t state = 1;
  for (const SchemeInfo& info : all_schemes()) {
    const int64_t k = 1024;
    for (int fill = 0; fill < 4; ++fill) {
      std::vector<std::byte> row(static_cast<size_t>(row_bytes(info.scheme, k)), std::byte{0xff});
      for (std::byte& b : row) {
        state = state * 1664525u + 1013904223u;
        if (fill > 0) b = static_cast<std::byte>(state >> 24);
      }
      std::vector<float> out(static_cast<size_t>(k) + 1, 7.0f);
      info.decode_row(row.data(), k, out.data());
      EXPECT_EQ(out.back(), 7.0f) << info.name << " wrote behind the row";
    }
  }
}

TEST(DType, NamesSizesAndShapes) {
  for (int i = 0; i <= static_cast<int>(DType::kF4); ++i) {
    const DType dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_bits(DType::kF4), 4);
  EXPECT_EQ(dtype_bits(DType::kF6E2M3), 6);
  EXPECT_EQ(dtype_bits(DType::kC64), 64);
  EXPECT_EQ(dtype_bits(DType::kBool), 8);
  EXPECT_FALSE(parse_dtype("bf16"));
  EXPECT_EQ(shape_text({49152, 576}), "[49152, 576]");
  EXPECT_EQ(shape_text({}), "[]");
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, 5}), 0);
  EXPECT_EQ(element_count({3, 5}), 15);
  EXPECT_FALSE(element_count({3, -5}));
  EXPECT_FALSE(element_count({0, -1}));
  EXPECT_FALSE(element_count({int64_t{1} << 40, int64_t{1} << 40}));
  EXPECT_EQ(element_count({int64_t{1} << 40, int64_t{1} << 40, 0}), 0);
}

}  // namespace
}  // namespace fettle
