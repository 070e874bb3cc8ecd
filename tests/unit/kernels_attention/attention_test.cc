// Attention: against a softmax in double, kernels against ref.cc, and the promise that feeding never changes
// a bit.
#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <span>
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
    {1, 1, 16, 16, 70},        {4, 2, 24, 16, 130},         {9, 3, 64, 64, 200},      {4, 1, 80, 80, 90},
    {12, 2, 128, 128, 150},    {16, 2, 192, 128, 70},       {6, 3, 64, 24, 129},      {3, 3, 15, 17, 100},
    {5, 1, 33, 40, 65},        {8, 1, 512, 512, 66},        {7, 1, 64, 96, 131},      {2, 1, 1, 1, 70},
    {5, 1, 36, 24, 135, true}, {16, 1, 576, 512, 70, true}, {3, 1, 49, 33, 66, true},
};

// A shape that a kernel's cache can hold: of a coded one, a latent.
SequenceShape fitting(const AttentionKernel& kernel, SequenceShape s) {
  if (!is_coded(kernel.type)) return s;
  s.kv_heads = 1;
  s.v_dim = std::max<int64_t>(2, std::min(s.v_dim, s.k_dim) / 2 * 2);
  s.k_dim = std::max(s.k_dim, s.v_dim);
  s.latent = true;
  return s;
}

float as_bf16(float x) { return bf16_to_f32(f32_to_bf16(x)); }

// The numbers of one position, as they are used once they have been in a cache.
void round_stored(KvType type, int64_t values, std::span<float> x) {
  const auto coded = is_coded(type) ? static_cast<size_t>(values) : 0;
  for (size_t begin = 0; begin < coded; begin += 128) {
    const auto group = x.subspan(begin, std::min<size_t>(128, coded - begin));
    float largest = 0;
    for (const float v : group) largest = std::max(largest, std::abs(v));
    const float scale = type == KvType::kInt8 ? largest / 127 : std::max(largest, 1e-4f) / 448;
    for (float& v : group)
      v = as_bf16(scale *
                  (type == KvType::kInt8 ? std::nearbyint(v / scale) : e4m3_to_f32(f32_to_e4m3(v / scale))));
  }
  for (size_t i = coded; type != KvType::kF32 && i < x.size(); ++i) x[i] = as_bf16(x[i]);
}

// The same sequence with K and V as they come back from the cache.
Sequence stored(Sequence s, KvType type) {
  const int64_t values = s.shape.latent ? s.shape.v_dim : 0;
  const auto round = [&](std::vector<float>& all, int64_t width) {
    for (size_t at = 0; at < all.size(); at += static_cast<size_t>(width))
      round_stored(type, values, std::span(all).subspan(at, static_cast<size_t>(width)));
  };
  round(s.k, s.shape.k_dim);
  if (!s.shape.latent) round(s.v, s.shape.v_dim);
  for (int64_t t = 0; s.shape.latent && t < s.shape.length; ++t)
    std::copy_n(s.k.data() + t * s.shape.k_dim, s.shape.v_dim, s.v.data() + t * s.shape.v_dim);
  return s;
}

// One output row in double, from K and V as stored and q as the cache's type rounds it.
std::vector<double> softmax_row(const Sequence& s, KvType type, int64_t t, int64_t head) {
  const auto rounded = [type](float x) { return double{type == KvType::kF32 ? x : as_bf16(x)}; };
  const SequenceShape& n = s.shape;
  const int64_t kv_head = head / (n.heads / n.kv_heads);
  std::vector<double> scores(static_cast<size_t>(t + 1), 0.0);
  double top = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (int64_t p = 0; p <= t; ++p) {
    for (int64_t i = 0; i < n.k_dim; ++i)
      scores[p] += rounded(s.q[(t * n.heads + head) * n.k_dim + i] * s.scale) *
                   double{s.k[(p * n.kv_heads + kv_head) * n.k_dim + i]};
    top = std::max(top, scores[p]);
  }
  for (double& score : scores) sum += score = std::exp(score - top);
  std::vector<double> out(static_cast<size_t>(n.v_dim), 0.0);
  for (int64_t p = 0; p <= t; ++p)
    for (int64_t c = 0; c < n.v_dim; ++c)
      out[c] += scores[p] / sum * double{s.v[(p * n.kv_heads + kv_head) * n.v_dim + c]};
  return out;
}

// Largest difference over some rows, the last ones always among them.
double error_to_double(const Sequence& fed, KvType type, const std::vector<float>& out) {
  const Sequence s = stored(fed, type);
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
      const Sequence sequence(fitting(*kernel, shape));
      EXPECT_LT(error_to_double(sequence, kernel->type, sequence.attend(*kernel)), tolerance(kernel->type))
          << kernel->name << " " << text(shape);
    }
}

TEST(Attention, KernelsAgreeWithTheReference) {
  for (const AttentionKernel* kernel : runnable()) {
    const AttentionKernel* ref = find_attention_kernel(kernel->type, Isa::kScalar);
    ASSERT_NE(ref, nullptr);
    for (const SequenceShape& shape : kShapes) {
      const Sequence sequence(fitting(*kernel, shape), 2);
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
      const Sequence sequence(fitting(*kernel, {4, 2, 24, 40, length}));
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
        const Sequence sequence(fitting(*kernel, {group, 1, k_dim, k_dim == 24 ? 64 : k_dim - 8, 75}));
        const std::vector<float> whole = sequence.attend(*kernel);
        const std::string what = fmt::format("{} group {} k_dim {}", kernel->name, group, k_dim);
        expect_same_bits(whole, sequence.attend(*kernel, {.chunk = 1, .scatter = 5}), what);
        expect_same_bits(whole, sequence.attend(*kernel, {.chunk = 5, .scatter = 6}), what);
      }
}

TEST(Attention, WholeBlocksAreStoredAsPositionsAre) {
  for (const AttentionKernel* kernel : runnable())
    for (const SequenceShape& shape : kShapes) {
      if (shape.kv_heads != 1 || shape.latent || is_coded(kernel->type)) continue;
      const Sequence sequence(shape);
      expect_same_bits(sequence.attend(*kernel), sequence.attend(*kernel, {.packed = true}),
                       fmt::format("{} {}", kernel->name, text(shape)));
    }
}

TEST(Attention, BlocksReadBackAsStored) {
  for (const AttentionKernel* kernel : runnable())
    for (const SequenceShape& shape : kShapes) {
      if (shape.kv_heads != 1) continue;
      const Sequence s(fitting(*kernel, shape)), back = stored(s, kernel->type);
      const KvShape kv = {kernel->type, 1, s.shape.k_dim, s.shape.v_dim, s.shape.latent};
      std::vector<std::byte> block(static_cast<size_t>(kv_block_bytes(kv)), std::byte{0xff});
      for (const int64_t count : {int64_t{1}, int64_t{31}, std::min(kBlockTokens, shape.length)}) {
        for (int64_t t = 0; t < count; ++t)
          kernel->write_kv(kv, s.k.data() + t * kv.k_dim, s.v.data() + t * kv.v_dim, block.data(), t);
        const int64_t stride = kv.k_dim + 3;
        std::vector<float> found(static_cast<size_t>(count * stride), 7.0f);
        kernel->read_block(kv, block.data(), count, found.data(), stride);
        for (int64_t t = 0; t < count; ++t)
          for (int64_t i = 0; i < stride; ++i) {
            const float expected = i < kv.k_dim ? back.k[t * kv.k_dim + i] : 7.0f;
            ASSERT_NEAR(found[t * stride + i], expected,
                        is_coded(kernel->type) ? std::abs(expected) / 128 : 0)
                << kernel->name << " " << text(shape) << " " << t << " " << i;
          }
      }
    }
}

// Codes of 8 bits: what they cost, beside bf16, on numbers like a normalised latent's.
TEST(Attention, CodedLatentsStayNear) {
  const Sequence sequence({16, 1, 576, 512, 200, true});
  const std::vector<float> plain = sequence.attend(*find_attention_kernel(KvType::kBF16, detect_isa()));
  for (const auto& [type, bound] : {std::pair(KvType::kInt8, 0.02), std::pair(KvType::kFp8, 0.06)}) {
    const std::vector<float> coded = sequence.attend(*find_attention_kernel(type, detect_isa()));
    double error = 0, norm = 0;
    for (size_t i = 0; i < plain.size(); ++i) {
      error += std::pow(double{coded[i]} - plain[i], 2);
      norm += std::pow(double{plain[i]}, 2);
    }
    EXPECT_LT(std::sqrt(error / norm), bound) << kv_type_name(type);
    EXPECT_GT(error, 0) << kv_type_name(type);
  }
}

TEST(Attention, APositionIsCopiedBetweenBlocks) {
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kInt8, KvType::kFp8}) {
    const Sequence s({1, 1, 70, 48, 20, true});
    const KvShape kv = {type, 1, 70, 48, true};
    const AttentionKernel& kernel = *find_attention_kernel(type, Isa::kScalar);
    std::vector<std::byte> from(static_cast<size_t>(kv_block_bytes(kv))), to(from.size());
    for (int64_t t = 0; t < 20; ++t) kernel.write_kv(kv, s.k.data() + t * 70, nullptr, from.data(), t);
    for (int64_t t = 0; t < 20; ++t) copy_kv(kv, from.data(), t, to.data(), 19 - t);
    std::vector<float> a(20 * 70), b(20 * 70);
    kernel.read_block(kv, from.data(), 20, a.data(), 70);
    kernel.read_block(kv, to.data(), 20, b.data(), 70);
    for (int64_t t = 0; t < 20; ++t)
      EXPECT_TRUE(std::equal(a.begin() + t * 70, a.begin() + (t + 1) * 70, b.begin() + (19 - t) * 70))
          << kv_type_name(type) << " " << t;
  }
}

TEST(Attention, LongSequencesStayTheSoftmaxInDouble) {
  for (const AttentionKernel* kernel : runnable()) {
    const Sequence fed(fitting(*kernel, {3, 1, 64, 16, 2050})), sequence = stored(fed, kernel->type);
    const std::vector<float> out = fed.attend(*kernel, {.chunk = 512});
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
      Sequence sequence(fitting(*kernel, {6, 2, 64, 32, kLength}));
      const std::vector<float> clean = sequence.attend(*kernel);
      std::fill(sequence.k.begin() + kClean * sequence.shape.kv_heads * 64, sequence.k.end(), poison);
      std::fill(sequence.v.begin() + kClean * sequence.shape.kv_heads * 32, sequence.v.end(), poison);
      const std::vector<float> found = sequence.attend(*kernel);
      EXPECT_EQ(std::memcmp(clean.data(), found.data(), kClean * 6 * 32 * sizeof(float)), 0)
          << kernel->name << poison;
    }
}

TEST(Attention, HugeScoresDoNotOverflow) {
  for (const AttentionKernel* kernel : runnable())
    for (const float spread : {1e3f, 1e15f, 1e30f}) {
      const Sequence sequence(fitting(*kernel, {2, 1, 64, 16, 90}), 3, spread);
      for (const float x : sequence.attend(*kernel)) {
        ASSERT_TRUE(std::isfinite(x)) << kernel->name << " " << spread;
        ASSERT_LT(std::abs(x), 8.0f);  // a mean of V
      }
    }
}

TEST(Attention, AConstantValueIsReturnedAsItIs) {
  for (const AttentionKernel* kernel : runnable()) {
    if (is_coded(kernel->type)) continue;  // its values are keys
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
  // 512 codes, four scales, 64 rotated numbers.
  for (const KvType type : {KvType::kInt8, KvType::kFp8}) {
    EXPECT_EQ(kv_block_bytes({type, 1, 576, 512, true}), 64 * (512 + 4 * 4 + 64 * 2));
    EXPECT_EQ(kv_block_bytes({type, 1, 36, 18, true}) % 64, 0);
    EXPECT_TRUE(check_kv_shape({type, 1, 576, 512, true}).ok());
    EXPECT_FALSE(check_kv_shape({type, 1, 576, 512, false}).ok());
    EXPECT_FALSE(check_kv_shape({type, 1, 576, 511, true}).ok());
    EXPECT_FALSE(check_kv_shape({type, 2, 576, 512, true}).ok());
  }
}

TEST(Attention, KernelsAndTypesAreFoundByName) {
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kInt8, KvType::kFp8}) {
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
  EXPECT_FALSE(parse_kv_type("fp4").ok());
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
