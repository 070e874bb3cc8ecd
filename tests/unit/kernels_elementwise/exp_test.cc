// exp_approx against std::exp in double. The scalar lanes are the definition; elementwise_test.cc and the
// test below hold the instruction sets to the same bits.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "kernels/vec16_scalar.h"
//
#include "kernels/vec16.h"

namespace fettle {
namespace {

float exp_of(float x) {
  F32x16 lanes = broadcast(x);
  return exp_approx(lanes).lane[5];
}

// Distance to the exact value in units of the float's last place (denormals: of their fixed spacing).
double error_in_ulps(float found, double exact) {
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::abs(found - exact) / std::ldexp(1.0, exponent - 23);
}

TEST(ExpApprox, IsWithinElevenTenthsOfAnUlp) {
  double worst = 0.0;
  float worst_at = 0.0f;
  float lanes[16];
  // A step that is not a round binary number visits the polynomial's whole range many times.
  for (double x = -104.0; x < 88.0; x += 16 * 0.000237) {
    for (int i = 0; i < 16; ++i) lanes[i] = static_cast<float>(x + i * 0.000237);
    const F32x16 found = exp_approx(load(lanes));
    for (int i = 0; i < 16; ++i) {
      const double error = error_in_ulps(found.lane[i], std::exp(double{lanes[i]}));
      if (error > worst) worst = error, worst_at = lanes[i];
    }
  }
  EXPECT_LT(worst, 1.1) << "at " << worst_at;
  EXPECT_GT(worst, 0.5);  // or the measure is wrong
}

TEST(ExpApprox, HasItsExactValues) {
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-0.0f), 1.0f);
  EXPECT_EQ(exp_of(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_EQ(exp_of(-1000.0f), 0.0f);
  EXPECT_EQ(exp_of(std::numeric_limits<float>::lowest()), 0.0f);
  EXPECT_TRUE(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
  for (const float x : {88.7f, 89.0f, 1e30f, std::numeric_limits<float>::max()}) {
    EXPECT_TRUE(std::isfinite(exp_of(x))) << x;
    EXPECT_GT(exp_of(x), 3e38f) << x;
  }
  EXPECT_EQ(exp_of(1e-40f), 1.0f);
  EXPECT_EQ(exp_of(-103.0f), 1.401298464e-45f);  // the smallest denormal
}

// Through softmax of [0, x]: a weight of exp(x) beside one of 1 shows every bit of a small exp(x) that a
// float sum keeps.
TEST(ExpApprox, IsTheSameOnEveryInstructionSetDownToDenormals) {
  for (const ElementwiseKernels& kernels : elementwise_kernels()) {
    if (kernels.isa > detect_isa()) continue;
    for (float x = -104.5f; x < -17.5f; x += 0.0173f) {  // the sum stays 1
      float row[2] = {0.0f, x};
      kernels.softmax(row, 2);
      ASSERT_EQ(row[0], 1.0f);
      ASSERT_EQ(std::bit_cast<uint32_t>(row[1]), std::bit_cast<uint32_t>(exp_of(x)))
          << isa_name(kernels.isa) << x;
    }
  }
}

}  // namespace
}  // namespace fettle
