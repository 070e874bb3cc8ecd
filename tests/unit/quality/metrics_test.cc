#include "quality/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace fettle {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(size_t count, uint32_t seed, float scale = 4) {
  std::mt19937 generator(seed);
  std::vector<float> out(count);
  for (float& v : out) {
    v = scale * (static_cast<float>(generator()) / 2147483648.0f - 1.0f) +
        static_cast<float>(generator() % 7);
  }
  return out;
}

std::vector<float> nudged(std::vector<float> logits, float size, uint32_t seed) {
  const auto noise = random_logits(logits.size(), seed, size);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] += noise[i] * size;
  return logits;
}

// The definition, term by term, in the widest type there is.
struct Plain {
  long double kld = 0, source_nll = 0, adapted_nll = 0;
};
Plain by_definition(const std::vector<float>& x, const std::vector<float>& y, size_t next) {
  long double zx = 0, zy = 0;
  for (const float v : x) zx += expl(v);
  for (const float v : y) zy += expl(v);
  Plain out;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double p = expl(x[i]) / zx;
    if (p > 0) out.kld += p * (x[i] - logl(zx) - (y[i] - logl(zy)));
  }
  out.source_nll = logl(zx) - x[next];
  out.adapted_nll = logl(zy) - y[next];
  return out;
}

TEST(ScorePosition, FollowsTheDefinitionAtEverySize) {
  for (const size_t size : {1, 2, 3, 15, 16, 17, 511, 512, 513, 5000}) {
    const auto x = random_logits(size, 1 + static_cast<uint32_t>(size));
    for (const float change : {1e-4f, 0.01f, 0.3f}) {
      const auto y = nudged(x, change, 99);
      const auto next = static_cast<int32_t>(size / 2);
      const PositionScore score = score_position(x, y, next);
      const Plain plain = by_definition(x, y, static_cast<size_t>(next));
      const double expected = static_cast<double>(plain.kld);
      EXPECT_NEAR(score.kld, expected, 1e-10 * expected + 1e-14) << size;
      EXPECT_NEAR(score.source_nll, static_cast<double>(plain.source_nll), 1e-12) << size;
      EXPECT_NEAR(score.adapted_nll, static_cast<double>(plain.adapted_nll), 1e-12) << size;
    }
  }
}

TEST(ScorePosition, KnownByHand) {
  // p = (1/2, 1/2), q = (1/4, 3/4): KL = 1/2 ln 2 + 1/2 ln(2/3).
  const std::vector<float> x{0, 0}, y{0, std::log(3.0f)};
  const PositionScore score = score_position(x, y, 1);
  EXPECT_NEAR(score.kld, 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0), 1e-7);
  EXPECT_NEAR(score.source_nll, std::log(2.0), 1e-12);
  EXPECT_NEAR(score.adapted_nll, -std::log(0.75), 1e-7);
  EXPECT_FALSE(score.same_top1);  // of equal logits the lowest id is the top
}

TEST(ScorePosition, EqualLogitsGiveExactlyZero) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    auto x = random_logits(1000 + seed * 13, seed, 30);
    EXPECT_EQ(score_position(x, x, 0).kld, 0.0);
    x[5] = -kInf;  // and by the path for masked tokens
    EXPECT_EQ(score_position(x, x, 0).kld, 0.0);
    EXPECT_TRUE(score_position(x, x, 0).same_top1);
  }
}

TEST(ScorePosition, NeverNegative) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const auto x = random_logits(300, seed);
    auto y = x;
    y[seed] = std::nextafter(y[seed], kInf);
    EXPECT_GE(score_position(x, y, 3).kld, 0.0);
    for (float& v : y) v += 0.125f;  // a shift of all logits is the same distribution, up to rounding
    const double kld = score_position(x, y, 3).kld;
    EXPECT_GE(kld, 0.0);
    EXPECT_LT(kld, 1e-12);
  }
}

TEST(ScorePosition, ExtremeButFiniteLogits) {
  const std::vector<float> x{0, -3e38f, 3e38f, 100}, y{3e38f, -3e38f, 0, 100};
  const PositionScore score = score_position(x, y, 2);
  EXPECT_TRUE(std::isfinite(score.kld));
  EXPECT_GT(score.kld, 1e38);
  EXPECT_NEAR(score.source_nll, 0, 1e-12);
  EXPECT_FALSE(score.same_top1);
}

TEST(ScorePosition, MaskedTokens) {
  const std::vector<float> x{1, -kInf, 2, 0.5f}, y{1.5f, -kInf, 2, 0.25f};
  const std::vector<float> x_without{1, 2, 0.5f}, y_without{1.5f, 2, 0.25f};
  EXPECT_NEAR(score_position(x, y, 0).kld, score_position(x_without, y_without, 0).kld, 1e-15);
  const std::vector<float> open{1, -8, 2, 0.5f};
  EXPECT_TRUE(std::isfinite(score_position(x, open, 0).kld));  // the source has p = 0 there
  EXPECT_EQ(score_position(open, x, 0).kld,
            double{kInf});  // the adapted model forbids what the source allows
  EXPECT_EQ(score_position(x, open, 1).source_nll,
            double{kInf});  // the text has a token that the source forbids
}

TEST(ScorePosition, WhatIsNoDistributionIsInfinitelyFar) {
  const auto good = random_logits(700, 4);
  for (const float poison : {kNan, -kNan, kInf}) {
    for (const size_t place : {size_t{0}, size_t{333}, size_t{699}}) {
      auto bad = good;
      bad[place] = poison;
      for (const PositionScore& score :
           {score_position(good, bad, 1), score_position(bad, good, 1), score_position(bad, bad, 1)}) {
        EXPECT_EQ(score.kld, double{kInf});
        EXPECT_EQ(score.adapted_nll, double{kInf});
        EXPECT_FALSE(score.same_top1);
      }
    }
  }
  const std::vector<float> nothing(10, -kInf);
  EXPECT_EQ(score_position(nothing, nothing, 0).kld, double{kInf});
}

TEST(ScorePosition, WithoutANextToken) {
  const auto x = random_logits(10, 1);
  EXPECT_TRUE(std::isnan(score_position(x, x, -1).source_nll));
  EXPECT_TRUE(std::isnan(score_position(x, x, -1).adapted_nll));
}

TEST(Quantile, LinearInterpolation) {
  EXPECT_EQ(quantile({7}, 0.3), 7);
  EXPECT_EQ(quantile({4, 1, 3, 2}, 0), 1);
  EXPECT_EQ(quantile({4, 1, 3, 2}, 1), 4);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({10, 20, 30, 40, 50}, 0.9), 46);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

TEST(Quantile, NanIsTheWorstAndInfinityStays) {
  EXPECT_EQ(quantile({1, double{kNan}, 2}, 1), double{kInf});
  EXPECT_EQ(quantile({1, double{kNan}, 2}, 0.5), 2);
  EXPECT_EQ(quantile({double{kInf}, double{kInf}, double{kInf}}, 0.25), double{kInf});
}

TEST(Proportion, Wilson) {
  const Interval half = proportion(5, 10);  // 0.2366 to 0.7634, a published example
  EXPECT_DOUBLE_EQ(half.value, 0.5);
  EXPECT_NEAR(half.low, 0.23659, 1e-5);
  EXPECT_NEAR(half.high, 0.76341, 1e-5);
  EXPECT_EQ(proportion(0, 20).low, 0);
  EXPECT_GT(proportion(0, 20).high, 0.1);
  EXPECT_EQ(proportion(20, 20).high, 1);
  EXPECT_TRUE(std::isnan(proportion(0, 0).value));
}

std::vector<std::vector<PositionScore>> windows_of(int windows, int positions) {
  std::mt19937 generator(17);
  std::vector<std::vector<PositionScore>> out;
  for (int w = 0; w < windows; ++w) {
    auto& window = out.emplace_back();
    const double level = 0.01 * (1 + w % 5);
    for (int p = 0; p < positions; ++p) {
      const double kld = level * static_cast<double>(generator()) / 2147483648.0;
      window.push_back({kld, 2.0, 2.1, generator() % 10 != 0});
    }
    window.back().source_nll = window.back().adapted_nll = double{kNan};
  }
  return out;
}

TEST(Summarise, CountsAndMeans) {
  const auto windows = windows_of(20, 50);
  const DriftSummary d = summarise(windows);
  EXPECT_EQ(d.positions, 1000);
  EXPECT_EQ(d.windows, 20);
  double sum = 0, agreed = 0;
  for (const auto& w : windows) {
    for (const auto& p : w) {
      sum += p.kld;
      agreed += p.same_top1;
    }
  }
  EXPECT_NEAR(d.kld_mean.value, sum / 1000, 1e-15);
  EXPECT_NEAR(d.top1_agreement.value, agreed / 1000, 1e-15);
  EXPECT_NEAR(d.perplexity_source, std::exp(2.0), 1e-12);
  EXPECT_NEAR(d.perplexity_adapted, std::exp(2.1), 1e-12);
  EXPECT_LT(d.kld_median, d.kld_p99);
  EXPECT_LT(d.kld_p99, d.kld_max);
}

TEST(Summarise, IntervalHasTheWidthOfTheSpreadBetweenWindows) {
  const auto windows = windows_of(40, 50);
  const DriftSummary d = summarise(windows);
  // Levels .01 ... .05 in equal parts, and a mean of 1 within: standard deviation .01414 between windows.
  const double half_width = 1.96 * 0.01414 / std::sqrt(40.0);
  EXPECT_NEAR(d.kld_mean.high - d.kld_mean.low, 2 * half_width, 0.25 * 2 * half_width);
  EXPECT_LT(d.kld_mean.low, d.kld_mean.value);
  EXPECT_GT(d.kld_mean.high, d.kld_mean.value);
  const DriftSummary again = summarise(windows);
  EXPECT_EQ(d.kld_mean.low, again.kld_mean.low);
  EXPECT_EQ(d.kld_mean.high, again.kld_mean.high);
}

TEST(Summarise, OneWindowHasNoInterval) {
  const DriftSummary d = summarise(windows_of(1, 50));
  EXPECT_TRUE(std::isfinite(d.kld_mean.value));
  EXPECT_TRUE(std::isnan(d.kld_mean.low));
  EXPECT_TRUE(std::isnan(d.top1_agreement.high));
}

TEST(Summarise, NothingIsNotZero) {
  const DriftSummary d = summarise({});
  EXPECT_EQ(d.positions, 0);
  EXPECT_TRUE(std::isnan(d.kld_mean.value));
  EXPECT_TRUE(std::isnan(d.kld_max));
  EXPECT_TRUE(std::isnan(d.perplexity_source));
}

TEST(Summarise, NotFiniteShows) {
  auto windows = windows_of(10, 20);
  windows[3][7].kld = double{kNan};
  windows[3][7].adapted_nll = double{kNan};
  const DriftSummary d = summarise(windows);
  EXPECT_EQ(d.kld_mean.value, double{kInf});
  EXPECT_EQ(d.kld_max, double{kInf});
  EXPECT_EQ(d.perplexity_adapted, double{kInf});
  EXPECT_TRUE(std::isfinite(d.perplexity_source));
  EXPECT_TRUE(std::isfinite(d.kld_median));
}

}  // namespace
}  // namespace fettle
