#include "tensor/numbers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tables.h"
#include "tensor/float_groups.h"
#include "tensor/scheme.h"

namespace fettle {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }

// Equal to the last bit, signs of zero included; all NaN are one.
bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || bits(a) == bits(b); }

template <typename Code>
void expect_values(const std::string& table, float (*value)(Code)) {
  const std::vector<float> expected = reference_table<float>(table);
  ASSERT_FALSE(expected.empty());
  for (size_t code = 0; code < expected.size(); ++code) {
    const float found = value(static_cast<Code>(code));
    EXPECT_TRUE(same(found, expected[code]))
        << table << " code " << code << ": " << found << ", expected " << expected[code];
  }
}

TEST(Numbers, EveryCodeHasItsValue) {
  expect_values<uint8_t>("code/e4m3", e4m3_to_f32);
  expect_values<uint8_t>("code/e5m2", e5m2_to_f32);
  expect_values<uint8_t>("code/e8m0", e8m0_to_f32);
  expect_values<uint8_t>("code/e2m1", e2m1_to_f32);
  expect_values<uint16_t>("code/bf16", bf16_to_f32);
  expect_values<uint16_t>("code/f16", f16_to_f32);
}

template <typename Code>
void expect_codes(const std::string& table, Code (*round)(float), float (*value)(Code)) {
  const std::vector<float> input = reference_table<float>("round/input");
  const std::vector<Code> expected = reference_table<Code>(table);
  ASSERT_EQ(input.size(), expected.size());
  for (size_t i = 0; i < input.size(); ++i) {
    const Code found = round(input[i]);
    const bool both_nan = std::isnan(value(found)) && std::isnan(value(expected[i]));
    EXPECT_TRUE(both_nan || found == expected[i])
        << table << " of " << input[i] << ": " << int{found} << ", expected " << int{expected[i]};
  }
}

TEST(Numbers, RoundsAsTheReference) {
  expect_codes<uint8_t>("round/e4m3", f32_to_e4m3, e4m3_to_f32);
  expect_codes<uint8_t>("round/e5m2", f32_to_e5m2, e5m2_to_f32);
  expect_codes<uint16_t>("round/bf16", f32_to_bf16, bf16_to_f32);
  expect_codes<uint16_t>("round/f16", f32_to_f16, f16_to_f32);
}

// For every pair of neighbouring codes: each rounds to itself, what lies next to the midpoint to the nearer
// one, and the midpoint to the one whose last bit is zero; all of it for both signs.
template <typename Code>
void expect_nearest_even(Code (*round)(float), float (*value)(Code), unsigned largest, Code sign) {
  for (unsigned code = 0; code < largest; ++code) {
    const float low = value(static_cast<Code>(code)), high = value(static_cast<Code>(code + 1));
    const float middle = low + (high - low) / 2;
    const unsigned even = code % 2 == 0 ? code : code + 1;
    const std::pair<float, unsigned> cases[] = {{low, code},
                                                {high, code + 1},
                                                {middle, even},
                                                {std::nextafter(middle, -kInf), code},
                                                {std::nextafter(middle, kInf), code + 1}};
    for (const auto& [input, expected] : cases) {
      EXPECT_EQ(unsigned{round(input)}, expected) << input;
      EXPECT_EQ(unsigned{round(-input)}, expected | sign) << -input;
    }
  }
}

TEST(Numbers, RoundsToNearestEvenAroundEveryCode) {
  expect_nearest_even<uint8_t>(f32_to_e4m3, e4m3_to_f32, 0x7e, 0x80);
  expect_nearest_even<uint8_t>(f32_to_e5m2, e5m2_to_f32, 0x7b, 0x80);
  expect_nearest_even<uint8_t>(f32_to_e2m1, e2m1_to_f32, 7, 8);
  expect_nearest_even<uint16_t>(f32_to_f16, f16_to_f32, 0x7bff, 0x8000);
}

TEST(FloatGroups, ScalesArePowersOfTwoAboveTheRatio) {
  for (int e = -126; e < 127; ++e) {
    const float power = std::ldexp(1.0f, e);
    EXPECT_EQ(ceil_power_of_two(power), power);
    EXPECT_EQ(ceil_power_of_two(std::nextafter(power, kInf)), 2 * power);
    EXPECT_EQ(ceil_power_of_two(std::nextafter(power, 0.0f)), power);
  }
  EXPECT_EQ(ceil_power_of_two(0.0f), 0x1p-126f);
  EXPECT_EQ(e4m3_group_scale(448.0f, ScaleFormat::kUe8m0), 1.0f);
  EXPECT_EQ(e4m3_group_scale(449.0f, ScaleFormat::kUe8m0), 2.0f);
  EXPECT_EQ(e4m3_group_scale(0.0f, ScaleFormat::kF32), 1e-4f / 448.0f);
  EXPECT_EQ(e2m1_group_scale(6.0f), 1.0f);
  EXPECT_EQ(e2m1_group_scale(6.5f), 2.0f);
  EXPECT_EQ(e2m1_group_scale(0.0f), 0x1p-126f);
  EXPECT_FALSE(parse_scale_format("e8m0"));
  EXPECT_EQ(parse_scale_format("ue8m0"), ScaleFormat::kUe8m0);
}

TEST(FloatGroups, TheRotationIsItsOwnInverse) {
  std::vector<float> x(64);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 13) - 6;
  std::vector<float> y = x;
  hadamard_rotate(y.data(), 64);
  EXPECT_NE(x, y);
  hadamard_rotate(y.data(), 64);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 1e-5f);
  std::vector<float> unit(8);
  unit[5] = 1;  // row 5 of the matrix: signs by the parity of i & 5
  hadamard_rotate(unit.data(), 8);
  for (unsigned i = 0; i < 8; ++i)
    EXPECT_FLOAT_EQ(unit[i], (__builtin_popcount(i & 5) % 2 ? -1.0f : 1.0f) / std::sqrt(8.0f));
}

TEST(Numbers, EndsOfTheRange) {
  EXPECT_EQ(f32_to_e4m3(448.0f), 0x7e);
  EXPECT_EQ(f32_to_e4m3(1e30f), 0x7e);
  EXPECT_EQ(f32_to_e4m3(kInf), 0x7e);
  EXPECT_EQ(f32_to_e4m3(-kInf), 0xfe);
  EXPECT_EQ(f32_to_e4m3(kNan), 0x7f);
  EXPECT_EQ(f32_to_e2m1(6.1f), 7);
  EXPECT_EQ(f32_to_e2m1(-kInf), 15);
  EXPECT_EQ(f32_to_e2m1(-0.1f), 8);
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(f32_to_f16(kInf), 0x7c00);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(kNan))));
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0);  // halfway to the smallest code: even
  EXPECT_EQ(f32_to_f16(0x1.000002p-25f), 1);
  EXPECT_EQ(f32_to_f16(0x1p-149f), 0);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
  EXPECT_EQ(f32_to_bf16(3.4e38f), 0x7f80);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_EQ(e8m0_to_f32(0), 0x1p-127f);
}

TEST(Numbers, SixteenBitCodesSurviveTheWayThere) {
  for (unsigned code = 0; code < 65536; ++code) {
    const float half = f16_to_f32(static_cast<uint16_t>(code)),
                brain = bf16_to_f32(static_cast<uint16_t>(code));
    EXPECT_TRUE(std::isnan(half) || f32_to_f16(half) == code) << code;
    EXPECT_TRUE(std::isnan(brain) || f32_to_bf16(brain) == code) << code;
  }
}

// By the definition of IEEE 754; of NaN the payload stays, quiet or not.
uint32_t f16_bits(unsigned code) {
  const unsigned exponent = code >> 10 & 31, mantissa = code & 1023, sign = code >> 15;
  if (exponent == 31) return sign << 31 | 0x7f800000u | mantissa << 13;
  const int step = static_cast<int>(exponent == 0 ? 1 : exponent) - 15 - 10;
  const float magnitude = std::ldexp(static_cast<float>(exponent == 0 ? mantissa : mantissa + 1024), step);
  return bits(sign != 0 ? -magnitude : magnitude);
}

TEST(Numbers, HalvesOneByOneAndAsRowsOfAnyLength) {
  std::vector<uint16_t> codes(65536);
  for (unsigned code = 0; code < codes.size(); ++code) {
    codes[code] = static_cast<uint16_t>(code);
    ASSERT_EQ(bits(f16_to_f32(codes[code])), f16_bits(code)) << code;
  }
  for (const size_t cols : {size_t{1}, size_t{15}, size_t{16}, size_t{33}, codes.size()}) {
    const size_t begin = codes.size() - cols;
    std::vector<float> row(cols);
    scheme_info(Scheme::kF16)
        .decode_row(reinterpret_cast<const std::byte*>(codes.data() + begin), static_cast<int64_t>(cols),
                    row.data());
    for (size_t i = 0; i < cols; ++i)
      ASSERT_EQ(bits(row[i]), f16_bits(static_cast<unsigned>(begin + i))) << cols << " " << i;
  }
}

}  // namespace
}  // namespace fettle
