// Attention: against a softmax in double, kernels against ref.cc, and the promise that feeding never changes
// a bit.
#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "sequence.h"
#include "tensor/numbers.h"

namespace fettle {
namespace {

std::vector<const AttentionKernel*> runnable() {
  std::vector<const AttentionKernel*> kernels;
  for (const AttentionKernel& k : attention_kernels())
    if (k.isa <= detect_isa()) kernels.push_back(&k);
  return kernels;
}

std::string text(const SequenceShape& s) {
  return fmt::format("heads {}/{} dims {},{} length {}", s.heads, s.kv_heads, s.k_dim, s.v_dim, s.length);
}

constexpr SequenceShape kShapes[] = {
    {1, 1, 16, 16, 70},     {4, 2, 24, 16, 130},   {9, 3, 64, 64, 200}, {4, 1, 80, 80, 90},
    {12, 2, 128, 128, 150}, {16, 2, 192, 128, 70}, {6, 3, 64, 24, 129}, {3, 3, 15, 17, 100},
    {5, 1, 33, 40, 65},     {8, 1, 512, 512, 66},  {7, 1, 64, 96, 131}, {2, 1, 1, 1, 70},
};

// One output row in double, from q, K and V as the cache rounds them.
std::vector<double> softmax_row(const Sequence& s, KvType type, int64_t t, int64_t head) {
  const auto rounded = [type](float x) {
    return double{type == KvType::kF32 ? x : bf16_to_f32(f32_to_bf16(x))};
  };
  const SequenceShape& n = s.shape;
  const int64_t kv_head = head / (n.heads / n.kv_heads);
  std::vector<double> scores(static_cast<size_t>(t + 1), 0.0);
  double top = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (int64_t p = 0; p <= t; ++p) {
    for (int64_t i = 0; i < n.k_dim; ++i)
      scores[p] += rounded(s.q[(t * n.heads + head) * n.k_dim + i] * s.scale) *
                   rounded(s.k[(p * n.kv_heads + kv_head) * n.k_dim + i]);
    top = std::max(top, scores[p]);
  }
  for (double& score : scores) sum += score = std::exp(score - top);
  std::vector<double> out(static_cast<size_t>(n.v_dim), 0.0);
  for (int64_t p = 0; p <= t; ++p)
    for (int64_t c = 0; c < n.v_dim; ++c)
      out[c] += scores[p] / sum * rounded(s.v[(p * n.kv_heads + kv_head) * n.v_dim + c]);
  return out;
}

// Largest difference over some rows, the last ones always among them.
double error_to_double(const Sequence& s, KvType type, const std::vector<float>& out) {
  double worst = 0.0;
  for (int64_t t = 0; t < s.shape.length; t += t + 8 < s.shape.length ? 7 : 1)
    for (int64_t head = 0; head < s.shape.heads; ++head) {
      const std::vector<double> expected = softmax_row(s, type, t, head);
      for (int64_t c = 0; c < s.shape.v_dim; ++c) {
        const double found = out[(t * s.shape.heads + head) * s.shape.v_dim + c];
        worst = std::isfinite(found) ? std::max(worst, std::abs(found - expected[c])) : INFINITY;
      }
    }
  return worst;
}

// Values of V are about 1. Weights rounded to 8 bits move a mean of them by at most 2^-8 and, as they add up,
// much less.
double tolerance(KvType type) { return type == KvType::kF32 ? 3e-6 : 8e-3; }

TEST(Attention, IsTheSoftmaxInDouble) {
  for (const AttentionKernel* kernel : runnable())
    for (const SequenceShape& shape : kShapes) {
      const Sequence sequence(shape);
      EXPECT_LT(error_to_double(sequence, kernel->type, sequence.attend(*kernel)), tolerance(kernel->type))
          << kernel->name << " " << text(shape);
    }
}

TEST(Attention, KernelsAgreeWithTheReference) {
  for (const AttentionKernel* kernel : runnable()) {
    const AttentionKernel* ref = find_attention_kernel(kernel->type, Isa::kScalar);
    ASSERT_NE(ref, nullptr);
    for (const SequenceShape& shape : kShapes) {
      const Sequence sequence(shape, 2);
      const std::vector<float> expected = sequence.attend(*ref), found = sequence.attend(*kernel);
      double squares = 0.0;
      for (size_t i = 0; i < found.size(); ++i) {
        // A score on the edge between two bf16 weights may be rounded either way.
        ASSERT_NEAR(found[i], expected[i], tolerance(kernel->type)) << kernel->name << " " << text(shape);
        squares += std::pow(double{found[i]} - expected[i], 2);
      }
      EXPECT_LT(std::sqrt(squares / static_cast<double>(found.size())),
                kernel->type == KvType::kF32 ? 3e-7 : 1e-4)
          << kernel->name << " " << text(shape);
    }
  }
}

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << what;
  for (const float x : a) ASSERT_TRUE(std::isfinite(x)) << what;
}

TEST(Attention, FeedingNeverChangesABit) {
  const Feeding feedings[] = {
      {.chunk = 1, .scatter = 2},
      {.chunk = 5, .scatter = 3},
      {.chunk = 64, .tokens_a_call = 7},
      {.tokens_a_call = 11, .always_partial = true},
      {.chunk = 700, .always_partial = true, .merge_empty_splits = true},
  };
  for (const AttentionKernel* kernel : runnable())
    for (const int64_t length : {1, 15, 16, 17, 63, 64, 65, 128, 1023, 1024, 1025, 1026, 2050}) {
      if (kernel->isa == Isa::kScalar && length > 128) continue;  // slow; its rows know nothing of each other
      const Sequence sequence({4, 2, 24, 40, length});
      const std::vector<float> whole = sequence.attend(*kernel);
      for (const Feeding& feeding : feedings)
        expect_same_bits(whole, sequence.attend(*kernel, feeding),
                         fmt::format("{} length {} chunk {}", kernel->name, length, feeding.chunk));
    }
}

TEST(Attention, FeedingNeverChangesABitForAnyGroupAndDimension) {
  for (const AttentionKernel* kernel : runnable())
    for (const int64_t group : {1, 2, 3, 4, 6, 8})
      for (const int64_t k_dim : {16, 24, 64, 80, 128, 192}) {
        const Sequence sequence({group, 1, k_dim, k_dim == 24 ? 64 : k_dim - 8, 75});
        const std::vector<float> whole = sequence.attend(*kernel);
        const std::string what = fmt::format("{} group {} k_dim {}", kernel->name, group, k_dim);
        expect_same_bits(whole, sequence.attend(*kernel, {.chunk = 1, .scatter = 5}), what);
        expect_same_bits(whole, sequence.attend(*kernel, {.chunk = 5, .scatter = 6}), what);
      }
}

TEST(Attention, LongSequencesStayTheSoftmaxInDouble) {
  for (const AttentionKernel* kernel : runnable()) {
    const Sequence sequence({3, 1, 64, 16, 2050});
    const std::vector<float> out = sequence.attend(*kernel, {.chunk = 512});
    for (const int64_t t : {1023, 1024, 1500, 2047, 2048, 2049}) {
      const std::vector<double> expected = softmax_row(sequence, kernel->type, t, 1);
      for (int64_t c = 0; c < 16; ++c)
        ASSERT_NEAR(out[(t * 3 + 1) * 16 + c], expected[c], tolerance(kernel->type))
            << kernel->name << " " << t;
    }
  }
}

// Later tokens of the same step are in the cache already; whatever they hold, an earlier row must not see it.
TEST(Attention, LaterTokensContributeExactlyNothing) {
  constexpr int64_t kLength = 83, kClean = 69;
  for (const AttentionKernel* kernel : runnable())
    for (const float poison :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
      Sequence sequence({6, 2, 64, 32, kLength});
      const std::vector<float> clean = sequence.attend(*kernel);
      std::fill(sequence.k.begin() + kClean * 2 * 64, sequence.k.end(), poison);
      std::fill(sequence.v.begin() + kClean * 2 * 32, sequence.v.end(), poison);
      const std::vector<float> found = sequence.attend(*kernel);
      EXPECT_EQ(std::memcmp(clean.data(), found.data(), kClean * 6 * 32 * sizeof(float)), 0)
          << kernel->name << poison;
    }
}

TEST(Attention, HugeScoresDoNotOverflow) {
  for (const AttentionKernel* kernel : runnable())
    for (const float spread : {1e3f, 1e15f, 1e30f}) {
      const Sequence sequence({2, 1, 64, 16, 90}, 3, spread);
      for (const float x : sequence.attend(*kernel)) {
        ASSERT_TRUE(std::isfinite(x)) << kernel->name << " " << spread;
        ASSERT_LT(std::abs(x), 8.0f);  // a mean of V
      }
    }
}

TEST(Attention, AConstantValueIsReturnedAsItIs) {
  for (const AttentionKernel* kernel : runnable()) {
    Sequence sequence({2, 1, 32, 16, 200});
    std::fill(sequence.v.begin(), sequence.v.end(), 1.5f);
    for (const float x : sequence.attend(*kernel)) ASSERT_NEAR(x, 1.5f, 2e-6f) << kernel->name;
  }
}

TEST(Attention, BlocksAreWholeCacheLines) {
  for (const KvType type : {KvType::kF32, KvType::kBF16})
    for (const SequenceShape& s : kShapes)
      EXPECT_EQ(kv_block_bytes({type, s.kv_heads, s.k_dim, s.v_dim}) % 64, 0);
  // Two bytes a number and nothing else, for the usual dimensions.
  EXPECT_EQ(kv_block_bytes({KvType::kBF16, 3, 64, 64}), 64 * 3 * (64 + 64) * 2);
}

TEST(Attention, KernelsAndTypesAreFoundByName) {
  for (const KvType type : {KvType::kF32, KvType::kBF16}) {
    EXPECT_EQ(parse_kv_type(kv_type_name(type)).value(), type);
    for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
      const AttentionKernel* found = find_attention_kernel(type, isa);
      ASSERT_NE(found, nullptr);
      EXPECT_LE(found->isa, isa);
      EXPECT_EQ(found->type, type);
      for (const AttentionKernel& other : attention_kernels())
        EXPECT_FALSE(other.type == type && other.isa <= isa && other.isa > found->isa) << other.name;
    }
  }
  EXPECT_FALSE(parse_kv_type("fp8").ok());
}

TEST(AttentionDeathTest, RowsOfSeveralSplitsNeedPartialResults) {
  const Sequence sequence({1, 1, 16, 16, 1});
  AttentionArgs args = {};
  args.kv = {KvType::kF32, 1, 16, 16};
  args.heads = 1;
  args.first_position = kSplitTokens;
  args.token_end = 1;
  for (const AttentionKernel* kernel : runnable()) EXPECT_DEATH(kernel->run(args), "partial");
}

}  // namespace
}  // namespace fettle
