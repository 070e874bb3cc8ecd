// The sampler against a plain one that sorts the whole vocabulary, its behaviour on odd logits, and its
// statistics.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "runtime/sampler.h"

namespace fettle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(size_t count, uint32_t seed, float sigma, bool coarse = false) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> logits(count);
  for (float& x : logits) x = coarse ? std::round(normal(random) * 2) / 2 : normal(random);
  return logits;
}

struct Plain {
  int32_t id;
  double logit, probability;
};

void normalise(std::vector<Plain>& tokens) {
  const double largest = tokens.front().logit;
  double total = 0;
  for (Plain& t : tokens) total += t.probability = std::exp(t.logit - largest);
  for (Plain& t : tokens) t.probability /= total;
}

// The definition in sampler.h, word for word: everything sorted, everything in double precision.
std::vector<double> plain_distribution(const std::vector<float>& logits, const SamplingParams& params,
                                       const std::vector<int32_t>& prompt,
                                       const std::vector<int32_t>& output) {
  std::vector<Plain> tokens;
  std::set<int32_t> seen(prompt.begin(), prompt.end());
  seen.insert(output.begin(), output.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    double x = static_cast<double>(logits[i]);
    if (const auto bias = params.logit_bias.find(id); bias != params.logit_bias.end()) x += bias->second;
    if (seen.count(id)) x = x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty;
    const auto count = static_cast<double>(std::count(output.begin(), output.end(), id));
    x -= count * params.frequency_penalty + (count > 0 ? params.presence_penalty : 0.0);
    tokens.push_back({id, x / params.temperature, 0});
  }
  std::sort(tokens.begin(), tokens.end(), [](const Plain& a, const Plain& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < tokens.size())
    tokens.resize(static_cast<size_t>(params.top_k));
  normalise(tokens);
  if (params.top_p < 1) {
    double before = 0;
    size_t kept = 0;
    while (kept < tokens.size() && (kept == 0 || before < params.top_p)) before += tokens[kept++].probability;
    tokens.resize(kept);
    normalise(tokens);
  }
  const double least = params.min_p * tokens.front().probability;
  std::erase_if(tokens, [&](const Plain& t) { return t.probability < least; });
  normalise(tokens);
  std::vector<double> p(logits.size(), 0.0);
  for (const Plain& t : tokens) p[static_cast<size_t>(t.id)] = t.probability;
  return p;
}

void expect_equal(const std::vector<double>& found, const std::vector<double>& expected,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  size_t differing = 0;
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    differing += (found[i] > 0) != (expected[i] > 0);
    if (expected[i] > 0) worst = std::max(worst, std::fabs(found[i] / expected[i] - 1));
  }
  EXPECT_EQ(differing, 0u) << what << ": ids kept by one only";
  EXPECT_LT(worst, 1e-5) << what;
}

TEST(Distribution, EqualsThePlainOne) {
  Sampler sampler;
  const std::vector<int32_t> prompt = {3, 3, 7, 60, 61, 130}, output = {5, 5, 5, 7, 199};
  for (const size_t count : {1u, 5u, 64u, 65u, 200u, 5000u}) {
    for (const float sigma : {0.1f, 3.0f, 12.0f}) {
      const auto logits = random_logits(count, static_cast<uint32_t>(count), sigma);
      for (const double temperature : {0.3, 0.6, 1.0, 2.0}) {
        for (const int64_t k : {0, 1, 3, 40, 1000}) {
          for (const auto& [top_p, min_p] :
               {std::pair{1.0, 0.0}, {0.95, 0.0}, {0.3, 0.0}, {1.0, 0.05}, {0.9, 0.01}, {0.999, 0.0}}) {
            SamplingParams params;
            params.temperature = temperature;
            params.top_k = k;
            params.top_p = top_p;
            params.min_p = min_p;
            const auto what = fmt::format("{} logits, sigma {}, T {}, k {}, p {}, min {}", count, sigma,
                                          temperature, k, top_p, min_p);
            expect_equal(sampler.distribution(logits, params, {}, {}),
                         plain_distribution(logits, params, {}, {}), what);
            params.repetition_penalty = 1.2;
            params.frequency_penalty = 0.3;
            params.presence_penalty = -0.2;
            params.logit_bias = {{2, 1.5}, {5, -2.0}, {1000000, 3.0}, {-1, 1.0}};
            expect_equal(sampler.distribution(logits, params, prompt, output),
                         plain_distribution(logits, params, prompt, output), what + ", penalties");
          }
        }
      }
    }
  }
}

TEST(Distribution, TiesGoToLowerIds) {
  Sampler sampler;
  const auto logits = random_logits(3000, 4, 1.0f, true);  // a few dozen values, each very often
  for (const int64_t k : {1, 2, 10, 47, 48, 100, 2999}) {
    SamplingParams params;
    params.temperature = 0.7;
    params.top_k = k;
    const auto p = sampler.distribution(logits, params, {}, {});
    EXPECT_EQ(std::count_if(p.begin(), p.end(), [](double x) { return x > 0; }), k);
    expect_equal(p, plain_distribution(logits, params, {}, {}), fmt::format("k {}", k));
  }
  for (const double top_p : {0.01, 0.123, 0.5, 0.777}) {
    SamplingParams params;
    params.temperature = 0.7;
    params.top_p = top_p;
    expect_equal(sampler.distribution(logits, params, {}, {}), plain_distribution(logits, params, {}, {}),
                 fmt::format("p {}", top_p));
  }
}

TEST(Greedy, TakesTheLowestOfTheLargest) {
  Sampler sampler;
  auto logits = random_logits(1000, 8, 1.0f);
  logits[777] = logits[130] = logits[900] = 20;
  const SampledToken token = sampler.sample(logits, {}, {}, {}, 0);
  EXPECT_EQ(token.id, 130);
  EXPECT_NEAR(token.logprob, -std::log(3.0), 1e-5);
  SamplingParams params;
  params.logit_bias = {{900, 0.5}};
  EXPECT_EQ(sampler.sample(logits, params, {}, {}, 0).id, 900);
}

TEST(LogProbability, IsThatOfTheUnmodifiedLogits) {
  Sampler sampler;
  const auto logits = random_logits(5001, 9, 4.0f);
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x));
  SamplingParams params;
  params.temperature = 1.7;
  params.top_k = 50;
  params.frequency_penalty = 1.5;
  params.logit_bias = {{17, 30.0}};
  const std::vector<int32_t> output = {1, 2, 3, 17};
  for (uint64_t position = 0; position < 40; ++position) {
    const SampledToken token = sampler.sample(logits, params, {}, output, position);
    EXPECT_NEAR(token.logprob, static_cast<double>(logits[static_cast<size_t>(token.id)]) - std::log(total),
                2e-6);
  }
}

TEST(LogProbability, IsLeftOutUnlessAskedFor) {
  Sampler sampler;
  const auto logits = random_logits(1000, 9, 4.0f);
  SamplingParams params;
  params.temperature = 1;
  const SampledToken with = sampler.sample(logits, params, {}, {}, 4);
  params.logprob = false;
  const SampledToken without = sampler.sample(logits, params, {}, {}, 4);
  EXPECT_EQ(without.id, with.id);
  EXPECT_LT(with.logprob, 0);
  EXPECT_EQ(without.logprob, 0);
}

TEST(Replay, EveryInstructionSetDrawsTheSame) {
  const auto logits = random_logits(20000, 15, 2.0f);
  SamplingParams params;
  params.temperature = 0.9;
  params.top_p = 0.97;
  Sampler best, plain(Isa::kScalar);
  for (uint64_t position = 0; position < 200; ++position) {
    const SampledToken token = best.sample(logits, params, {}, {}, position),
                       expected = plain.sample(logits, params, {}, {}, position);
    ASSERT_EQ(token.id, expected.id);
    ASSERT_EQ(token.logprob, expected.logprob);
  }
}

TEST(OddLogits, NanAndMinusInfinityAreNeverDrawn) {
  Sampler sampler;
  auto logits = random_logits(500, 10, 1.0f);
  for (size_t i = 0; i < logits.size(); i += 2) logits[i] = i % 4 ? kNan : -kInfinity;
  for (const double temperature : {0.0, 0.5, 1.0, 5.0}) {
    for (const int64_t k : {0, 7, 400}) {
      for (const double top_p : {1.0, 0.9, 0.9999999}) {
        SamplingParams params;
        params.temperature = temperature;
        params.top_k = k;
        params.top_p = top_p;
        params.repetition_penalty = k == 7 ? 1.1 : 1.0;
        for (uint64_t position = 0; position < 50; ++position) {
          const SampledToken token =
              sampler.sample(logits, params, std::vector<int32_t>{0, 1, 2}, {}, position);
          ASSERT_EQ(token.id % 2, 1);
          ASSERT_TRUE(std::isfinite(token.logprob));
        }
      }
    }
  }
}

TEST(OddLogits, NothingLeftAndInfinityDoNotCrash) {
  Sampler sampler;
  SamplingParams params;
  params.temperature = 1;
  params.top_p = 0.9;
  for (const float x : {kNan, -kInfinity}) {
    const std::vector<float> logits(100, x);
    EXPECT_EQ(sampler.sample(logits, params, {}, {}, 3).id, 0);
    EXPECT_EQ(sampler.sample(logits, {}, {}, {}, 3).id, 0);
  }
  auto logits = random_logits(100, 11, 1.0f);
  logits[40] = kInfinity;
  for (uint64_t position = 0; position < 20; ++position)
    EXPECT_EQ(sampler.sample(logits, params, {}, {}, position).id, 40);
  EXPECT_EQ(sampler.sample(logits, {}, {}, {}, 3).id, 40);
}

TEST(OddParams, ExtremesOfEveryParameter) {
  Sampler sampler;
  const auto logits = random_logits(300, 12, 2.0f);
  const int32_t best = sampler.sample(logits, {}, {}, {}, 0).id;
  for (const double temperature : {-1.0, 1e-300, 1e-30, 1e-6, std::nan("")}) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_p = 0.99;
    EXPECT_EQ(sampler.sample(logits, params, {}, {}, 1).id, best) << temperature;
    params.top_p = 1;
    EXPECT_EQ(sampler.sample(logits, params, {}, {}, 1).id, best) << temperature;
  }
  SamplingParams hot;
  hot.temperature = 1e300;
  for (const double p : sampler.distribution(logits, hot, {}, {})) EXPECT_NEAR(p, 1.0 / 300, 1e-9);
  SamplingParams narrow;
  narrow.temperature = 1;
  narrow.top_p = 0;
  EXPECT_EQ(sampler.sample(logits, narrow, {}, {}, 5).id, best);
  narrow.top_p = 1;
  narrow.min_p = 2;
  EXPECT_EQ(sampler.sample(logits, narrow, {}, {}, 5).id, best);
}

TEST(Replay, DependsOnSeedAndPositionAlone) {
  const auto logits = random_logits(2000, 13, 2.0f);
  SamplingParams params;
  params.temperature = 1;
  params.seed = 99;
  Sampler used, fresh;
  std::set<int32_t> ids;
  for (uint64_t position = 0; position < 50; ++position) {
    used.sample(random_logits(100 + position, 1, 1.0f), params, {}, {}, position * 7);
    const int32_t id = used.sample(logits, params, {}, {}, position).id;
    EXPECT_EQ(id, fresh.sample(logits, params, {}, {}, position).id);
    ids.insert(id);
  }
  EXPECT_GT(ids.size(), 20u);
}

// Pearson's statistic of 20000 draws over the ids that are expected at least 8 times, the rest pooled.
double chi_square(const std::vector<float>& logits, const SamplingParams& params,
                  const std::vector<double>& p, int* degrees) {
  constexpr int kDraws = 20000;
  Sampler sampler;
  std::vector<int> drawn(logits.size(), 0);
  for (uint64_t position = 0; position < kDraws; ++position)
    ++drawn[static_cast<size_t>(sampler.sample(logits, params, {}, {}, position).id)];
  double statistic = 0, pooled = 0, pooled_expected = 0;
  *degrees = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = kDraws * p[i];
    if (expected < 8) {
      pooled += drawn[i];
      pooled_expected += expected;
      continue;
    }
    statistic += (drawn[i] - expected) * (drawn[i] - expected) / expected;
    ++*degrees;
  }
  if (pooled_expected > 0) {
    statistic += (pooled - pooled_expected) * (pooled - pooled_expected) / pooled_expected;
    ++*degrees;
  }
  return statistic;
}

TEST(Statistics, DrawsFollowTheDistribution) {
  const auto logits = random_logits(300, 14, 1.5f);
  SamplingParams params;
  params.temperature = 0.8;
  params.top_p = 0.97;
  params.seed = 2024;
  int degrees = 0;
  const double right = chi_square(logits, params, plain_distribution(logits, params, {}, {}), &degrees);
  ASSERT_GT(degrees, 30);
  const double spread = std::sqrt(2.0 * degrees);
  EXPECT_LT(right, degrees + 4 * spread);
  EXPECT_GT(right, degrees - 4 * spread);
  // The test can tell a slightly wrong temperature.
  SamplingParams wrong = params;
  wrong.temperature = 0.85;
  EXPECT_GT(chi_square(logits, params, plain_distribution(logits, wrong, {}, {}), &degrees),
            degrees + 8 * spread);
}

}  // namespace
}  // namespace fettle
