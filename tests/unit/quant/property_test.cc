// What every scheme promises, over rows of many kinds.
#include <gtest/gtest.h>

#include <cstring>

#include "quant/rows.h"
#include "tensor/numbers.h"

namespace fettle {
namespace {

constexpr int64_t kColumns = 256;

std::vector<Scheme> encodable() {
  std::vector<Scheme> schemes;
  for (const SchemeInfo& info : all_schemes())
    if (can_encode(info.scheme)) schemes.push_back(info.scheme);
  return schemes;
}

// Tensors of one row in the range of the scheme's scales: "large" stays below what fp16 holds times 8.
class EveryScheme : public testing::TestWithParam<Scheme> {};

TEST_P(EveryScheme, SearchIsNeverWorseThanAbsMax) {
  const auto importance = test_importance(kColumns);
  for (const TestRow& row : test_rows(kColumns)) {
    for (const float* weights_of_error : {static_cast<const float*>(nullptr), importance.data()}) {
      const auto plain = encode(GetParam(), EncodeMethod::kAbsMax, row.weights, weights_of_error);
      const auto searched = encode(GetParam(), EncodeMethod::kSearch, row.weights, weights_of_error);
      ASSERT_FALSE(plain.empty() || searched.empty()) << row.name;
      const double plain_error =
          weighted_error(row.weights, decode(GetParam(), plain, kColumns), weights_of_error);
      const double error =
          weighted_error(row.weights, decode(GetParam(), searched, kColumns), weights_of_error);
      EXPECT_LE(error, plain_error * (1 + 1e-5)) << row.name << (weights_of_error ? ", weighted" : "");
    }
  }
}

TEST_P(EveryScheme, DecodesToFiniteValues) {
  for (const TestRow& row : test_rows(kColumns))
    for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch})
      for (const float v : decode(GetParam(), encode(GetParam(), method, row.weights), kColumns))
        ASSERT_TRUE(std::isfinite(v)) << row.name;
}

TEST_P(EveryScheme, ZeroRowsDecodeToZero) {
  for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch})
    for (const float v :
         decode(GetParam(), encode(GetParam(), method, std::vector<float>(kColumns, 0.0f)), kColumns))
      ASSERT_EQ(v, 0.0f);
}

TEST_P(EveryScheme, SameInputGivesSameBytes) {
  const auto importance = test_importance(kColumns);
  for (const TestRow& row : test_rows(kColumns))
    ASSERT_EQ(encode(GetParam(), EncodeMethod::kSearch, row.weights, importance.data()),
              encode(GetParam(), EncodeMethod::kSearch, row.weights, importance.data()));
}

// A block's bytes do not depend on the other blocks of the row.
TEST_P(EveryScheme, BlocksAreIndependent) {
  const SchemeInfo& info = scheme_info(GetParam());
  if (info.block_elems == 0) return;
  const auto row = normal_row(3, kColumns, 0.02f);
  const auto importance = test_importance(kColumns);
  const auto whole = encode(GetParam(), EncodeMethod::kSearch, row, importance.data());
  for (int64_t at = 0; at < kColumns; at += info.block_elems) {
    const std::vector<float> block(row.begin() + at, row.begin() + at + info.block_elems);
    const auto alone = encode(GetParam(), EncodeMethod::kSearch, block, importance.data() + at);
    ASSERT_EQ(
        std::memcmp(alone.data(), whole.data() + at / info.block_elems * info.block_bytes, alone.size()), 0);
  }
}

// The values that a block can take, seen from the outside: what is decoded for weights far above, far below
// and in between.
TEST_P(EveryScheme, ErrorBoundHoldsInsideTheCodedRange) {
  for (const TestRow& row : test_rows(kColumns)) {
    for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch}) {
      const auto bytes = encode(GetParam(), method, row.weights);
      const float bound = error_bound(GetParam(), bytes.data(), kColumns);
      const auto decoded = decode(GetParam(), bytes, kColumns);
      const int64_t block =
          scheme_info(GetParam()).block_elems > 1 ? scheme_info(GetParam()).block_elems : kColumns;
      for (int64_t at = 0; at < kColumns; at += block) {
        const auto [low, high] = std::minmax_element(decoded.begin() + at, decoded.begin() + at + block);
        for (int64_t i = at; i < at + block; ++i) {
          const float w = row.weights[static_cast<size_t>(i)];
          if (w < *low || w > *high) continue;  // may be clipped
          // The plain rule picks codes for scale and offset as they are before fp16 rounds them.
          const float rounding = std::max(-*low, *high) * 0x1p-10f + 0x1p-24f * 8;
          const float slack = method == EncodeMethod::kAbsMax ? rounding : 0;
          ASSERT_LE(std::fabs(w - decoded[static_cast<size_t>(i)]), bound + slack)
              << row.name << " column " << i;
        }
      }
      if (GetParam() == Scheme::kF32) {
        ASSERT_EQ(bound, 0.0f);
      }
    }
  }
}

// Half a step is reached: the bound is not just any large number.
TEST_P(EveryScheme, ErrorBoundIsNearTheLargestError) {
  if (GetParam() == Scheme::kF32) return;
  double largest = 0;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const auto row = normal_row(seed, kColumns, 0.02f);
    const auto bytes = encode(GetParam(), EncodeMethod::kAbsMax, row);
    const auto decoded = decode(GetParam(), bytes, kColumns);
    const float bound = error_bound(GetParam(), bytes.data(), kColumns);
    for (size_t i = 0; i < row.size(); ++i)
      largest = std::max(largest, static_cast<double>(std::fabs(row[i] - decoded[i]) / bound));
  }
  EXPECT_GT(largest, 0.5);
}

INSTANTIATE_TEST_SUITE_P(Schemes, EveryScheme, testing::ValuesIn(encodable()),
                         [](const auto& info) { return std::string(scheme_name(info.param)); });

// The weighted error that the search must reach on normal rows, as a share of the plain rule's. The figures
// are a little above what a scan of 300 scales (for i4g32z times 16 zero points) reaches.
struct Gain {
  Scheme scheme;
  double plain, weighted;
};

TEST(Search, GainsWhatADenseScanGains) {
  const Gain gains[] = {
      {Scheme::kQ4_0, 0.91, 0.70},   {Scheme::kI4G32, 0.91, 0.70},  {Scheme::kQ5_0, 0.92, 0.72},
      {Scheme::kQ8_0, 0.96, 0.82},   {Scheme::kQ4_1, 0.84, 0.58},   {Scheme::kQ5_1, 0.88, 0.62},
      {Scheme::kI4G32Z, 0.92, 0.71}, {Scheme::kIQ4_NL, 0.88, 0.65}, {Scheme::kMXFP4, 0.98, 0.97},
      {Scheme::kI8C, 1.0, 0.99},     {Scheme::kF8B128, 0.95, 0.9}};
  const int64_t k = 1024;
  std::vector<float> importance = normal_row(5, k, 1.5f);
  for (float& i : importance) i = std::exp(i);
  for (const Gain& gain : gains) {
    double plain[2] = {}, searched[2] = {};
    for (uint32_t seed = 1; seed <= 16; ++seed) {
      const auto row = normal_row(seed, k, 0.02f);
      for (const int weighted : {0, 1}) {
        const float* im = weighted ? importance.data() : nullptr;
        const auto size = static_cast<size_t>(k);
        plain[weighted] += weighted_error(
            row, decode(gain.scheme, encode(gain.scheme, EncodeMethod::kAbsMax, row, im), size), im);
        searched[weighted] += weighted_error(
            row, decode(gain.scheme, encode(gain.scheme, EncodeMethod::kSearch, row, im), size), im);
      }
    }
    EXPECT_LT(searched[0] / plain[0], gain.plain) << scheme_name(gain.scheme);
    EXPECT_LT(searched[1] / plain[1], gain.weighted) << scheme_name(gain.scheme) << ", weighted";
  }
}

TEST(Search, GivesUpAnOutlierThatDoesNotMatter) {
  auto row = normal_row(21, 512, 0.01f);
  row[100] = 0.09f;
  std::vector<float> importance(512, 1.0f);
  importance[100] = 1e-6f;
  for (const Scheme scheme : {Scheme::kI8C, Scheme::kI4G32, Scheme::kI4G32Z, Scheme::kQ4_1}) {
    const auto plain = decode(scheme, encode(scheme, EncodeMethod::kAbsMax, row), 512);
    const auto searched = decode(scheme, encode(scheme, EncodeMethod::kSearch, row, importance.data()), 512);
    EXPECT_LT(weighted_error(row, searched, importance.data()),
              0.95 * weighted_error(row, plain, importance.data()))
        << scheme_name(scheme);
  }
}

TEST(Search, KeepsWhatIsAlreadyExact) {
  for (const Scheme scheme :
       {Scheme::kQ4_0, Scheme::kI4G32, Scheme::kI4G32Z, Scheme::kQ4_1, Scheme::kQ8_0, Scheme::kMXFP4,
        Scheme::kIQ4_NL, Scheme::kQ5_0, Scheme::kQ5_1, Scheme::kI8C, Scheme::kF8B128}) {
    const auto once = decode(scheme, encode(scheme, EncodeMethod::kSearch, normal_row(31, 64, 0.02f)), 64);
    const auto twice = decode(scheme, encode(scheme, EncodeMethod::kSearch, once), 64);
    double power = 0;
    for (const float v : once) power += static_cast<double>(v) * v;
    EXPECT_LT(weighted_error(once, twice, nullptr), 2e-3 * power) << scheme_name(scheme);
  }
}

TEST(Extremes, FloatScalesHoldTheWholeRangeOfFp32) {
  for (const float size : {1e-42f, 1e-38f, 1e-30f, 1e30f, 1e38f}) {
    auto row = normal_row(41, 96, 0.3f);
    for (float& w : row) w = std::clamp(w, -3.0f, 3.0f) * size;
    for (const Scheme scheme : {Scheme::kI8C, Scheme::kMXFP4, Scheme::kF8B128}) {
      for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch}) {
        const auto decoded = decode(scheme, encode(scheme, method, row), row.size());
        double error = 0, power = 0;
        for (size_t i = 0; i < row.size(); ++i) {
          const double w = static_cast<double>(row[i]) / static_cast<double>(size);
          const double v = static_cast<double>(decoded[i]) / static_cast<double>(size);
          error += (w - v) * (w - v);
          power += w * w;
        }
        // Near the bottom of fp32 one step is a sizeable part of a weight; mxfp4 ends at 2^-127 / 2.
        const double allowed = size < 1e-37f            ? (scheme == Scheme::kMXFP4 ? 1.01 : 1e-2)
                               : scheme == Scheme::kI8C ? 1e-3
                                                        : 0.03;
        EXPECT_LT(error, allowed * power) << scheme_name(scheme) << " " << size;
      }
    }
  }
}

TEST(Extremes, WeightsBelowTheSmallestFp16ScaleStillGetCodes) {
  std::vector<float> row(32);
  for (size_t i = 0; i < row.size(); ++i) row[i] = 0x1p-24f * static_cast<float>(static_cast<int>(i % 5) - 2);
  for (const Scheme scheme : {Scheme::kQ4_0, Scheme::kI4G32, Scheme::kI4G32Z, Scheme::kQ5_0, Scheme::kQ8_0}) {
    EXPECT_EQ(decode(scheme, encode(scheme, EncodeMethod::kSearch, row), 32), row) << scheme_name(scheme);
  }
}

TEST(Extremes, AZeroScaleHasZeroCodes) {
  const std::vector<float> row = normal_row(51, 32, 1e-12f);
  for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch}) {
    const auto q4 = encode(Scheme::kQ4_0, method, row);
    for (size_t i = 2; i < q4.size(); ++i) EXPECT_EQ(q4[i], std::byte{0x88});
    const auto q8 = encode(Scheme::kQ8_0, method, row);
    for (size_t i = 2; i < q8.size(); ++i) EXPECT_EQ(q8[i], std::byte{0});
  }
}

TEST(Layout, I8CPadsWithZeroBytes) {
  const auto bytes = encode(Scheme::kI8C, EncodeMethod::kSearch, {1.0f, -0.5f, 0.25f, 0.0f, 1.0f});
  ASSERT_EQ(bytes.size(), 12u);
  float scale = 0;
  std::memcpy(&scale, bytes.data(), sizeof scale);
  EXPECT_NEAR(scale, 1.0f / 127, 1e-4);
  EXPECT_EQ(bytes[4], std::byte{127});
  for (size_t i = 9; i < 12; ++i) EXPECT_EQ(bytes[i], std::byte{0});
}

TEST(Layout, I4G32ZKeepsZeroExactAndUsesBothEnds) {
  std::vector<float> row(32);
  for (size_t i = 0; i < row.size(); ++i)
    row[i] = static_cast<float>(i % 16) - 3;  // -3 .. 12: sixteen values, z = 3, d = 1
  const auto bytes = encode(Scheme::kI4G32Z, EncodeMethod::kSearch, row);
  ASSERT_EQ(bytes.size(), 19u);
  EXPECT_EQ(bytes[2], std::byte{3});
  EXPECT_EQ(decode(Scheme::kI4G32Z, bytes, 32), row);
}

TEST(Plain, RoundsToNearestEven) {
  const std::vector<float> row = {1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f};
  const auto bf16 = decode(Scheme::kBF16, encode(Scheme::kBF16, EncodeMethod::kSearch, row), 4);
  EXPECT_EQ(bf16[0], 1.0f);
  EXPECT_EQ(bf16[1], 1.0f + 4 * 0x1p-8f);
  const auto f16 = decode(Scheme::kF16, encode(Scheme::kF16, EncodeMethod::kSearch, row), 4);
  EXPECT_EQ(f16[2], 1.0f);
  EXPECT_EQ(f16[3], 1.0f + 4 * 0x1p-11f);
}

TEST(Mxfp4, CodesAreTheNearestForTheirExponent) {
  const auto row = normal_row(61, 320, 0.7f);
  const auto bytes = encode(Scheme::kMXFP4, EncodeMethod::kSearch, row);
  const auto decoded = decode(Scheme::kMXFP4, bytes, row.size());
  for (size_t i = 0; i < row.size(); ++i) {
    const float scale = e8m0_to_f32(std::to_integer<uint8_t>(bytes[i / 32 * 17]));
    float nearest = HUGE_VALF;
    for (uint8_t code = 0; code < 16; ++code)
      nearest = std::min(nearest, std::fabs(row[i] - e2m1_to_f32(code) * scale));
    ASSERT_EQ(std::fabs(row[i] - decoded[i]), nearest);
  }
}

}  // namespace
}  // namespace fettle
