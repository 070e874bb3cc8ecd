#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cases.h"
#include "tensor/float_groups.h"

namespace fettle {
namespace {

const Isa kIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512};

std::vector<Isa> isas_here() {
  std::vector<Isa> out;
  for (Isa isa : kIsas)
    if (isa <= detect_isa()) out.push_back(isa);
  return out;
}

TEST(Quantise, Q8G32FollowsItsDefinition) {
  cases::Rng rng(3);
  for (int64_t k : {32, 96, 256, 544}) {
    std::vector<float> x = cases::floats(2 * k, rng);
    for (int64_t i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = 0.0f;
    cases::Bytes buffer = cases::activations(Activation::kQ8G32, x, 2, k);
    const Q8View view = q8g32_view(buffer.data(), 2, k);
    EXPECT_EQ(view.k_padded % 64, 0);
    for (int64_t r = 0; r < 2; ++r)
      for (int64_t g = 0; g < view.groups; ++g) {
        float maximum = 0;
        for (int64_t i = 32 * g; i < std::min(k, 32 * g + 32); ++i)
          maximum = std::max(maximum, std::fabs(x[static_cast<size_t>(r * k + i)]));
        EXPECT_EQ(view.scales[r * view.groups + g], maximum / 127.0f);
        int sum = 0;
        for (int64_t i = 32 * g; i < 32 * g + 32; ++i) {
          const int code = view.codes[r * view.k_padded + i];
          const float value = i < k ? x[static_cast<size_t>(r * k + i)] : 0.0f;
          EXPECT_EQ(code, maximum > 0 ? std::nearbyint(value * (127.0f / maximum)) : 0.0f);
          sum += code;
        }
        EXPECT_EQ(view.sums[r * view.groups + g], sum);
      }
  }
}

TEST(Quantise, Q8TFollowsItsDefinition) {
  cases::Rng rng(4);
  for (int64_t k : {1, 24, 96, 300}) {
    const std::vector<float> x = cases::floats(3 * k, rng);
    cases::Bytes buffer = cases::activations(Activation::kQ8T, x, 3, k);
    const Q8View view = q8t_view(buffer.data(), 3, k);
    for (int64_t r = 0; r < 3; ++r) {
      float maximum = 0;
      for (int64_t i = 0; i < k; ++i)
        maximum = std::max(maximum, std::fabs(x[static_cast<size_t>(r * k + i)]));
      EXPECT_EQ(view.scales[r], maximum / 127.0f);
      int sum = 0;
      for (int64_t i = 0; i < view.k_padded; ++i) {
        const int code = view.codes[r * view.k_padded + i];
        EXPECT_EQ(code,
                  i < k ? std::nearbyint(x[static_cast<size_t>(r * k + i)] * (127.0f / maximum)) : 0.0f);
        sum += code;
      }
      EXPECT_EQ(view.sums[r], sum);
    }
  }
}

// All of it as tensor/float_groups.h has it, midpoints between codes included.
TEST(Quantise, F8G128FollowsItsDefinition) {
  cases::Rng rng(6);
  for (int64_t k : {1, 4, 127, 128, 130, 700}) {
    std::vector<float> x = cases::floats(5 * k, rng);
    for (int64_t i = 0; i < k; ++i) {
      x[static_cast<size_t>(k + i)] *= 1e-6f;  // the floor of the scale
      const auto code = static_cast<uint8_t>(i * 37 % 127), next = static_cast<uint8_t>(code + 1);
      const float high = code < 126 ? e4m3_to_f32(next) : 464.0f;
      x[static_cast<size_t>(2 * k + i)] = (e4m3_to_f32(code) + high) / 2 * (i % 2 ? 1.0f : -1.0f);
      x[static_cast<size_t>(3 * k + i)] *= i % 100 == 0 ? 1e4f : 1.0f;
    }
    for (int64_t i = 0; i < k; i += 128) x[static_cast<size_t>(2 * k + i)] = 448.0f;
    for (Activation form : {Activation::kF8G128, Activation::kF8G128Ue8m0}) {
      const ScaleFormat format = form == Activation::kF8G128 ? ScaleFormat::kF32 : ScaleFormat::kUe8m0;
      for (Isa isa : isas_here()) {
        cases::Bytes buffer = cases::activations(form, x, 5, k, isa);
        const F8View view = f8g128_view(buffer.data(), 5, k);
        EXPECT_EQ(view.groups, (k + 127) / 128);
        for (int64_t r = 0; r < 5; ++r) {
          for (int64_t begin = 0; begin < k; begin += 128) {
            const int64_t n = std::min<int64_t>(128, k - begin);
            uint8_t codes[128];
            const float scale = quantise_e4m3_group(x.data() + r * k + begin, n, format, codes);
            EXPECT_EQ(view.scales[r * view.groups + begin / 128], scale);
            for (int64_t i = 0; i < n; ++i)
              ASSERT_EQ(view.codes[r * view.k_padded + begin + i], codes[i])
                  << activation_name(form) << " k " << k << " row " << r << " column " << begin + i;
          }
          for (int64_t i = k; i < view.k_padded; ++i) EXPECT_EQ(view.codes[r * view.k_padded + i], 0);
        }
      }
    }
  }
}

TEST(Quantise, EveryInstructionSetGivesTheSameBytes) {
  cases::Rng rng(5);
  const float odd[] = {0.0f, -0.0f, 1e-44f, 3e-38f, -1e38f, 3.4e38f, 0.5f, 127.0f, -127.0f};
  for (Activation form : {Activation::kF32, Activation::kBF16, Activation::kQ8G32, Activation::kQ8T,
                          Activation::kF8G128, Activation::kF8G128Ue8m0})
    for (int64_t k : {1, 8, 24, 31, 32, 33, 96, 257, 1536}) {
      std::vector<float> x = cases::floats(4 * k, rng);
      for (int64_t i = 0; i < k; ++i) {
        x[static_cast<size_t>(k + i)] = odd[i % 9];
        x[static_cast<size_t>(2 * k + i)] = static_cast<float>(i % 5 - 2) * 1e-42f;
      }
      const cases::Bytes expected = cases::activations(form, x, 4, k);
      for (Isa isa : isas_here()) {
        const cases::Bytes found = cases::activations(form, x, 4, k, isa);
        EXPECT_EQ(std::memcmp(expected.data(), found.data(), static_cast<size_t>(expected.size())), 0)
            << activation_name(form) << " k " << k << " " << isa_name(isa);
      }
    }
}

TEST(Quantise, Bf16RoundsToNearestEven) {
  const std::vector<float> x = {1.0f, 1.00390625f, 1.01171875f, -2.5f, 3.4e38f};
  const cases::Bytes buffer = cases::activations(Activation::kBF16, x, 1, 5);
  const uint16_t* codes = reinterpret_cast<const uint16_t*>(buffer.data());
  EXPECT_EQ(codes[0], 0x3f80);
  EXPECT_EQ(codes[1], 0x3f80);
  EXPECT_EQ(codes[2], 0x3f82);
  EXPECT_EQ(codes[3], 0xc020);
  EXPECT_EQ(codes[4], 0x7f80);
  EXPECT_EQ(codes[5], 0);
  EXPECT_EQ(codes[31], 0);
}

TEST(Quantise, NonFiniteInputsAreHarmless) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  std::vector<float> x(96, 1.0f);
  x[0] = inf, x[40] = nan, x[70] = -inf, x[71] = nan;
  for (Activation form : {Activation::kBF16, Activation::kQ8G32, Activation::kQ8T, Activation::kF8G128,
                          Activation::kF8G128Ue8m0})
    for (Isa isa : isas_here()) {
      cases::Bytes buffer = cases::activations(form, x, 1, 96, isa);
      if (form != Activation::kQ8G32) continue;
      const Q8View view = q8g32_view(buffer.data(), 1, 96);
      for (int i = 0; i < 96; ++i) EXPECT_GE(view.codes[i], -127);
      EXPECT_EQ(view.codes[41], 127);  // beside a NaN, the others keep their values
    }
}

}  // namespace
}  // namespace fettle
