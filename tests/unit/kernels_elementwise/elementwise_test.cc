// Row-wise operations: against the formulas in double, and bit for bit across the instruction sets of this
// machine.
#include "kernels/elementwise/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tensor/numbers.h"

namespace fettle {
namespace {

std::vector<const ElementwiseKernels*> runnable() {
  std::vector<const ElementwiseKernels*> kernels;
  for (const ElementwiseKernels& k : elementwise_kernels())
    if (k.isa <= detect_isa()) kernels.push_back(&k);
  return kernels;
}

std::vector<float> random_row(int64_t n, uint32_t seed, float spread = 3.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) x = normal(generator);
  return row;
}

std::vector<int64_t> lengths() {
  std::vector<int64_t> all;
  for (int64_t n = 1; n <= 40; ++n) all.push_back(n);
  for (const int64_t n : {63, 64, 576, 1536, 4099, 50001}) all.push_back(n);
  return all;
}

// One operation as a function of a length: everything it writes, guard elements behind its end included.
using Operation = std::vector<float> (*)(const ElementwiseKernels&, int64_t n);
constexpr float kGuard = 12345.0f;
constexpr int64_t kGuards = 20;

std::vector<float> guarded(std::vector<float> row) {
  row.resize(row.size() + kGuards, kGuard);
  return row;
}

// Doubles as pairs of floats, to be compared bit by bit; nothing is written behind a result.
std::vector<float> doubles(const std::vector<double>& values) {
  std::vector<float> out(2 * values.size());
  std::memcpy(out.data(), values.data(), sizeof(double) * values.size());
  return guarded(std::move(out));
}

const struct {
  const char* name;
  Operation run;
} kOperations[] = {
    {"rms_norm",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(n, 9));
       k.rms_norm(random_row(n, 1).data(), random_row(n, 2).data(), 1e-5f, n, out.data());
       return out;
     }},
    {"silu_mul",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(n, 9));
       k.silu_mul(random_row(n, 1, 30.0f).data(), random_row(n, 2).data(), n, out.data());
       return out;
     }},
    {"silu_mul_limited",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(n, 9));
       k.silu_mul_limited(random_row(n, 1).data(), random_row(n, 2).data(), 1.5f, n, out.data());
       return out;
     }},
    {"sum_squares", [](const ElementwiseKernels& k,
                       int64_t n) { return guarded({k.sum_squares(random_row(n, 1).data(), n)}); }},
    {"weighted_sum",
     [](const ElementwiseKernels& k, int64_t n) {
       const auto a = random_row(n, 1), b = random_row(n, 2), c = random_row(n, 3);
       const float* rows[] = {a.data(), b.data(), c.data()};
       const float weights[] = {0.3f, -1.7f, 2.1f};
       std::vector<float> out = guarded(random_row(n, 9));
       k.weighted_sum(rows, weights, 3, n, out.data());
       return out;
     }},
    {"softmax_pool",
     [](const ElementwiseKernels& k, int64_t n) {
       const auto a = random_row(n, 1), b = random_row(n, 2), c = random_row(n, 3),
                  d = random_row(n, 4, 20.0f);
       const float *values[] = {a.data(), b.data(), c.data()}, *gates[] = {c.data(), d.data(), a.data()};
       std::vector<float> out = guarded(random_row(n, 9));
       k.softmax_pool(values, gates, 3, n, out.data());
       return out;
     }},
    {"add",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(n, 1));
       k.add(out.data(), random_row(n, 2).data(), n, out.data());
       return out;
     }},
    {"axpy",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(n, 1));
       k.axpy(-0.37f, random_row(n, 2).data(), n, out.data());
       return out;
     }},
    {"rope_half",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(2 * n, 1));
       k.rope_half(out.data(), random_row(n, 2).data(), random_row(n, 3).data(), 2 * n);
       return out;
     }},
    {"rope_pairs",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(2 * n, 1));
       k.rope_pairs(out.data(), random_row(n, 2).data(), random_row(n, 3).data(), 2 * n);
       return out;
     }},
    {"softmax",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> out = guarded(random_row(n, 1, 20.0f));
       k.softmax(out.data(), n);
       return out;
     }},
    {"block_maxima",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<float> x = random_row(n, 1), out = guarded(std::vector<float>((n + 63) / 64 + 1));
       x[static_cast<size_t>(n / 2)] = std::numeric_limits<float>::quiet_NaN();
       out[0] = k.block_maxima(x.data(), n, out.data() + 1);
       return out;
     }},
    {"sum_exp",
     [](const ElementwiseKernels& k, int64_t n) {
       return doubles({k.sum_exp(random_row(n, 1, 8.0f).data(), 40.0f, 0.7f, n)});
     }},
    {"exp_doubles",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<double> x;
       for (const float value : random_row(n, 1, 50.0f)) x.push_back(-std::abs(double{value}));
       k.exp_doubles(x.data(), n);
       return doubles(x);
     }},
    {"magnitude", [](const ElementwiseKernels& k,
                     int64_t n) { return guarded({k.magnitude(random_row(n, 1).data(), n)}); }},
    {"fit_codes",
     [](const ElementwiseKernels& k, int64_t n) {
       const CodeFit fit = k.fit_codes(random_row(n, 1).data(), n, 0.06f, 127);
       return doubles({fit.error, fit.slope, fit.curvature});
     }},
    {"whole_codes",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<int8_t> codes(static_cast<size_t>(n + kGuards), 99);
       k.whole_codes(random_row(n, 1).data(), n, 40.0f, 120, codes.data());
       std::vector<float> out(codes.begin(), codes.end());
       for (int64_t i = 0; i < kGuards; ++i) out[n + i] = out[n + i] == 99 ? kGuard : 0;
       return out;
     }},
    {"scale_e4m3",
     [](const ElementwiseKernels& k, int64_t n) {
       std::vector<uint8_t> codes;
       for (int64_t i = 0; i < n; ++i) codes.push_back(static_cast<uint8_t>(i * 37 % 127 | i % 2 << 7));
       std::vector<float> out = guarded(random_row(n, 9));
       k.scale_e4m3(codes.data(), n, 0.037f, out.data());
       return out;
     }},
};

TEST(Elementwise, EveryInstructionSetGivesTheBitsOfTheReference) {
  const ElementwiseKernels& ref = find_elementwise_kernels(Isa::kScalar);
  ASSERT_EQ(ref.isa, Isa::kScalar);
  for (const ElementwiseKernels* kernels : runnable())
    for (const auto& operation : kOperations)
      for (const int64_t n : lengths()) {
        const std::vector<float> expected = operation.run(ref, n), found = operation.run(*kernels, n);
        ASSERT_EQ(expected.size(), found.size());
        for (size_t i = 0; i < found.size(); ++i)
          ASSERT_EQ(std::bit_cast<uint32_t>(expected[i]), std::bit_cast<uint32_t>(found[i]))
              << isa_name(kernels->isa) << " " << operation.name << " n=" << n << " i=" << i << ": "
              << expected[i] << " and " << found[i];
      }
}

TEST(Elementwise, NothingBehindTheEndIsWritten) {
  for (const ElementwiseKernels* kernels : runnable())
    for (const auto& operation : kOperations)
      for (const int64_t n : lengths()) {
        const std::vector<float> found = operation.run(*kernels, n);
        for (int64_t i = 0; i < kGuards; ++i)
          ASSERT_EQ(found[found.size() - 1 - i], kGuard) << isa_name(kernels->isa) << operation.name << n;
      }
}

TEST(Elementwise, RmsNormIsTheFormula) {
  for (const ElementwiseKernels* kernels : runnable())
    for (const int64_t d : lengths()) {
      const std::vector<float> x = random_row(d, 1), weight = random_row(d, 2);
      std::vector<float> out(x.size());
      kernels->rms_norm(x.data(), weight.data(), 1e-5f, d, out.data());
      double squares = 0.0;
      for (const float value : x) squares += static_cast<double>(value) * value;
      const double root = std::sqrt(squares / static_cast<double>(d) + 1e-5);
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(out[i], x[i] / root * weight[i], 1e-6 * std::abs(x[i] / root * weight[i]) + 1e-12);
    }
}

TEST(Elementwise, SiluMulIsTheFormulaAndFiniteEverywhere) {
  for (const ElementwiseKernels* kernels : runnable()) {
    std::vector<float> gate = random_row(1000, 1, 10.0f);
    for (const float z : {0.0f, -0.0f, 88.0f, -88.0f, 104.0f, -104.0f, 3e38f, -3e38f, 1e-40f})
      gate.push_back(z);
    const std::vector<float> up(gate.size(), 2.0f);
    std::vector<float> out(gate.size());
    kernels->silu_mul(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double z = gate[i], expected = 2.0 * z / (1.0 + std::exp(-z));
      if (std::abs(z) < 85.0) {
        ASSERT_NEAR(out[i], expected, 1e-6 * std::abs(expected)) << z;
      } else if (z > 0.0 && z < 1e38) {
        ASSERT_FLOAT_EQ(out[i], 2.0f * gate[i]);
      } else if (z < 0.0) {
        ASSERT_TRUE(std::abs(out[i]) < 1e-30 || z < -1e30) << z << " " << out[i];
      }
      ASSERT_FALSE(std::isnan(out[i])) << z;
    }
  }
}

TEST(Elementwise, LimitsOfGateAndUp) {
  const float gate[] = {-9, -0.5f, 0.5f, 9, 1}, up[] = {2, -9, 9, 0.25f, -0.25f};
  for (const ElementwiseKernels* kernels : runnable()) {
    float out[5];
    kernels->silu_mul_limited(gate, up, 1.0f, 5, out);
    for (int i = 0; i < 5; ++i) {
      const double z = std::min(gate[i], 1.0f), u = std::clamp(up[i], -1.0f, 1.0f);
      ASSERT_NEAR(out[i], z / (1 + std::exp(-z)) * u, 1e-6) << i;
    }
  }
}

TEST(Elementwise, EveryLaneIsPooledUnderItsOwnSoftmax) {
  constexpr int64_t kRows = 9, kLength = 37;
  for (const ElementwiseKernels* kernels : runnable()) {
    std::vector<std::vector<float>> values, gates;
    std::vector<const float*> value_rows, gate_rows;
    for (uint32_t r = 0; r < kRows; ++r) {
      values.push_back(random_row(kLength, r));
      gates.push_back(random_row(kLength, 100 + r, 30.0f));
    }
    for (int64_t r = 0; r < kRows; ++r) {
      value_rows.push_back(values[static_cast<size_t>(r)].data());
      gate_rows.push_back(gates[static_cast<size_t>(r)].data());
    }
    std::vector<float> out(kLength);
    kernels->softmax_pool(value_rows.data(), gate_rows.data(), kRows, kLength, out.data());
    for (size_t i = 0; i < kLength; ++i) {
      double top = -INFINITY, sum = 0, mixed = 0;
      for (const auto& gate : gates) top = std::max<double>(top, gate[i]);
      for (size_t r = 0; r < kRows; ++r) {
        const double weight = std::exp(gates[r][i] - top);
        sum += weight;
        mixed += weight * values[r][i];
      }
      ASSERT_NEAR(out[i], mixed / sum, 1e-5) << i;
    }
  }
}

TEST(Elementwise, RopeTurnsByTheAngle) {
  constexpr int64_t kDim = 64;
  for (const ElementwiseKernels* kernels : runnable()) {
    std::vector<float> cos(kDim / 2), sin(kDim / 2);
    for (int64_t i = 0; i < kDim / 2; ++i) {
      const double angle = 17.0 * std::pow(10000.0, -2.0 * static_cast<double>(i) / kDim);
      cos[i] = static_cast<float>(std::cos(angle));
      sin[i] = static_cast<float>(std::sin(angle));
    }
    const std::vector<float> x = random_row(kDim, 3);
    std::vector<float> half = x, pairs = x;
    kernels->rope_half(half.data(), cos.data(), sin.data(), kDim);
    kernels->rope_pairs(pairs.data(), cos.data(), sin.data(), kDim);
    for (int64_t i = 0; i < kDim / 2; ++i) {
      const int64_t j = i + kDim / 2;
      ASSERT_NEAR(half[i], double{x[i]} * cos[i] - double{x[j]} * sin[i], 2e-6);
      ASSERT_NEAR(half[j], double{x[i]} * sin[i] + double{x[j]} * cos[i], 2e-6);
      ASSERT_NEAR(pairs[2 * i], double{x[2 * i]} * cos[i] - double{x[2 * i + 1]} * sin[i], 2e-6);
      ASSERT_NEAR(pairs[2 * i + 1], double{x[2 * i]} * sin[i] + double{x[2 * i + 1]} * cos[i], 2e-6);
    }
  }
}

TEST(Elementwise, SoftmaxIsTheFormulaForAnyOffset) {
  for (const ElementwiseKernels* kernels : runnable())
    for (const int64_t n : lengths())
      for (const float offset : {0.0f, -1e4f, 1e30f}) {
        std::vector<float> x = random_row(n, 5, 4.0f);
        for (float& value : x) value += offset;
        double top = -std::numeric_limits<double>::infinity(), sum = 0.0;
        for (const float value : x) top = std::max(top, double{value});
        for (const float value : x) sum += std::exp(value - top);
        std::vector<float> p = x;
        kernels->softmax(p.data(), n);
        for (size_t i = 0; i < x.size(); ++i)
          ASSERT_NEAR(p[i], std::exp(x[i] - top) / sum, 1e-5 * std::exp(x[i] - top) / sum + 1e-30);
      }
}

TEST(Elementwise, SoftmaxGivesMinusInfinityNothing) {
  const float least = -std::numeric_limits<float>::infinity();
  for (const ElementwiseKernels* kernels : runnable()) {
    float x[3] = {least, 2.0f, least};
    kernels->softmax(x, 3);
    EXPECT_EQ(x[0], 0.0f);
    EXPECT_EQ(x[1], 1.0f);
    EXPECT_EQ(x[2], 0.0f);
  }
}

TEST(Elementwise, BlockMaximaAreTheLargestAndPassOverNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), least = -std::numeric_limits<float>::infinity();
  for (const ElementwiseKernels* kernels : runnable())
    for (const int64_t n : lengths()) {
      std::vector<float> x = random_row(n, 6);
      for (size_t i = 0; i < x.size(); i += 3) x[i] = nan;
      std::vector<float> expected(static_cast<size_t>((n + kMaximaBlock - 1) / kMaximaBlock), least);
      for (size_t i = 0; i < x.size(); ++i)
        if (x[i] > expected[i / kMaximaBlock]) expected[i / kMaximaBlock] = x[i];
      std::vector<float> found(expected.size());
      const float largest = kernels->block_maxima(x.data(), n, found.data());
      EXPECT_EQ(found, expected) << isa_name(kernels->isa) << " n=" << n;
      EXPECT_EQ(largest, *std::max_element(expected.begin(), expected.end()));
    }
}

TEST(Elementwise, SumExpIsTheFormula) {
  for (const ElementwiseKernels* kernels : runnable())
    for (const int64_t n : lengths()) {
      std::vector<float> x = random_row(n, 7);
      const float top = *std::max_element(x.begin(), x.end());
      if (n > 2) x[1] = -std::numeric_limits<float>::infinity();
      if (n > 3) x[2] = std::numeric_limits<float>::quiet_NaN();
      double sum = 0;
      for (const float value : x) sum += value <= top ? std::exp((double{value} - top) * 1.5) : 0.0;
      EXPECT_NEAR(kernels->sum_exp(x.data(), top, 1.5f, n), sum, 2e-6 * sum) << "n=" << n;
    }
}

TEST(Elementwise, ExpOfDoublesIsTheFormula) {
  std::vector<double> x;
  for (double value = 0; value > -699.9; value -= 0.377) x.push_back(value);
  for (const ElementwiseKernels* kernels : runnable()) {
    std::vector<double> y = x;
    kernels->exp_doubles(y.data(), static_cast<int64_t>(y.size()));
    EXPECT_EQ(y[0], 1.0);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i] / std::exp(x[i]), 1.0, 1e-15) << x[i];
    double far[2] = {-1e300, -std::numeric_limits<double>::infinity()};
    kernels->exp_doubles(far, 2);
    for (const double value : far) EXPECT_LT(value, 1e-300);
  }
}

TEST(Elementwise, TheMagnitudeTellsOfWhatIsNotFinite) {
  for (const ElementwiseKernels* kernels : runnable())
    for (const int64_t n : lengths()) {
      std::vector<float> x = random_row(n, 8);
      float largest = 0;
      for (const float value : x) largest = std::max(largest, std::abs(value));
      EXPECT_EQ(kernels->magnitude(x.data(), n), largest);
      x[static_cast<size_t>(n) - 1] = -std::numeric_limits<float>::infinity();
      EXPECT_EQ(kernels->magnitude(x.data(), n), std::numeric_limits<float>::infinity());
      x[static_cast<size_t>(n) / 2] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_TRUE(std::isnan(kernels->magnitude(x.data(), n)));
    }
}

TEST(Elementwise, CodesAreTheNearestAndTheirFitIsTheFormula) {
  constexpr float kScale = 0.05f, kTop = 100;
  for (const ElementwiseKernels* kernels : runnable())
    for (const int64_t n : {int64_t{1}, int64_t{15}, int64_t{64}, int64_t{500}}) {
      const std::vector<float> w = random_row(n, 8);
      std::vector<int8_t> codes(w.size());
      kernels->whole_codes(w.data(), n, 1 / kScale, kTop, codes.data());
      double error = 0, slope = 0, curvature = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        const double q = std::clamp(std::nearbyint(w[i] * (1 / kScale)), -kTop, kTop), r = w[i] - q * kScale;
        EXPECT_EQ(codes[i], static_cast<int8_t>(q)) << w[i];
        error += r * r, slope += q * r, curvature += q * q;
      }
      const CodeFit fit = kernels->fit_codes(w.data(), n, kScale, kTop);
      EXPECT_NEAR(fit.error, error, 1e-4 * error + 1e-6);
      EXPECT_NEAR(fit.slope, slope, 1e-3 * std::sqrt(error * curvature) + 1e-6);
      EXPECT_NEAR(fit.curvature, curvature, 1e-5 * curvature);
    }
}

TEST(Elementwise, EveryE4m3CodeIsItsNumber) {
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  for (const ElementwiseKernels* kernels : runnable()) {
    std::vector<float> out(codes.size());
    kernels->scale_e4m3(codes.data(), 256, 0.3f, out.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      const float expected = e4m3_to_f32(codes[i]) * 0.3f;
      ASSERT_TRUE(std::isnan(expected) ? std::isnan(out[i])
                                       : std::bit_cast<uint32_t>(out[i]) == std::bit_cast<uint32_t>(expected))
          << isa_name(kernels->isa) << " " << i << ": " << out[i] << ", expected " << expected;
    }
  }
}

TEST(Elementwise, TheBestAtOrBelowALevelIsFound) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
    const ElementwiseKernels& found = find_elementwise_kernels(isa);
    EXPECT_LE(found.isa, isa);
    for (const ElementwiseKernels& other : elementwise_kernels())
      EXPECT_FALSE(other.isa <= isa && other.isa > found.isa);
  }
}

}  // namespace
}  // namespace fettle
