// The least-squares core: the sums of one probe, and the step to the best scale for its codes.
#include "quant/fit.h"

#include <gtest/gtest.h>

#include "quant/rows.h"

namespace fettle::quant {
namespace {

constexpr int kCount = 64;
constexpr IntegerCodes kCodes{-8, 7};

TEST(Probe, SumsAreThoseOfTheDefinition) {
  const auto weights = normal_row(3, kCount, 1);
  auto importance = normal_row(4, kCount, 1);
  for (float& i : importance) i *= i;
  constexpr float kScale = 0.25f;
  double error = 0, numerator = 0, denominator = 0;
  for (int e = 0; e < kCount; ++e) {
    const double w = static_cast<double>(weights[static_cast<size_t>(e)]);
    const double i = static_cast<double>(importance[static_cast<size_t>(e)]);
    const double q = std::clamp(std::nearbyint(w / static_cast<double>(kScale)), -8.0, 7.0);
    error += i * (w - q * static_cast<double>(kScale)) * (w - q * static_cast<double>(kScale));
    numerator += i * w * q;
    denominator += i * q * q;
  }
  const Fit fit = probe({weights.data(), importance.data(), kCount}, kScale, kCodes);
  EXPECT_NEAR(fit.error, error, 1e-5 * error);
  EXPECT_NEAR(static_cast<double>(fit.best_scale()), numerator / denominator, 1e-5 * numerator / denominator);
}

TEST(Descend, ReachesAFixedPointAndNeverGetsWorse) {
  const auto weights = normal_row(5, kCount, 1);
  const std::vector<float> importance(kCount, 1.0f);
  const auto probe_at = [&](float scale) {
    return probe({weights.data(), importance.data(), kCount}, scale, kCodes);
  };
  const auto store = [](float scale) { return scale; };
  const Fit start = probe_at(0.5f);
  const Fit end = descend(start, 100, probe_at, store);
  EXPECT_LT(end.error, start.error);
  EXPECT_NEAR(static_cast<double>(end.best_scale()), static_cast<double>(end.scale), 1e-4);
}

}  // namespace
}  // namespace fettle::quant
