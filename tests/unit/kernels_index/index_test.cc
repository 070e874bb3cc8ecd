// Scores of entries: against sums in double, kernels against ref.cc, and the promise that company never
// changes a bit; choosing against a full sort.
#include "kernels/index/index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tensor/numbers.h"

namespace fettle {
namespace {

struct Shape {
  int64_t heads, dim, tokens, entries;
};
constexpr Shape kShapes[] = {{1, 16, 1, 64},  {4, 32, 3, 70},   {8, 128, 5, 200}, {64, 128, 2, 65},
                             {5, 15, 8, 129}, {7, 33, 4, 1000}, {13, 1, 2, 10}};

std::vector<const IndexKernel*> runnable() {
  std::vector<const IndexKernel*> kernels;
  for (const IndexKernel& k : index_kernels())
    if (k.isa <= detect_isa()) kernels.push_back(&k);
  return kernels;
}

// Random tokens and entries in scattered blocks; every byte that is not written is part of a NaN.
struct Sample {
  Shape shape;
  KvShape kv;
  std::vector<float> q, k, w;
  std::vector<std::byte> storage;
  std::byte* pool;
  int64_t stride;
  std::vector<int32_t> table;

  Sample(const Shape& s, const IndexKernel& kernel, uint32_t scatter = 1) : shape(s) {
    kv = {kernel.type, 1, s.dim, s.dim, true};
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, int64_t n) {
      for (v.resize(static_cast<size_t>(n)); float& x : v) x = normal(generator);
    };
    fill(q, s.tokens * s.heads * s.dim);
    fill(k, s.entries * s.dim);
    fill(w, s.tokens * s.heads);
    const int64_t blocks = (s.entries + kBlockTokens - 1) / kBlockTokens;
    stride = kv_block_bytes(kv) + 64;
    storage.assign(static_cast<size_t>(2 * blocks * stride + 64), std::byte{0xff});
    pool = storage.data() + (64 - reinterpret_cast<uintptr_t>(storage.data()) % 64) % 64;
    table.resize(static_cast<size_t>(2 * blocks));
    std::iota(table.begin(), table.end(), 0);
    std::mt19937 order(scatter);
    std::shuffle(table.begin(), table.end(), order);
    for (int64_t e = 0; e < s.entries; ++e)
      kernel.write_kv(kv, k.data() + e * s.dim, nullptr, pool + table[e / kBlockTokens] * stride,
                      e % kBlockTokens);
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape.dim)); }

  // scores[token][entry], in calls of so many tokens and blocks.
  std::vector<float> scores(const IndexKernel& kernel, int64_t tokens_a_call = 1 << 20,
                            int64_t blocks_a_call = 1 << 20) const {
    const int64_t blocks = (shape.entries + kBlockTokens - 1) / kBlockTokens, row = blocks * kBlockTokens;
    std::vector<float> padded(static_cast<size_t>(shape.tokens * row), -777.0f), out;
    std::vector<float> scratch(static_cast<size_t>(index_scratch_floats(kv, shape.heads, shape.tokens)));
    for (int64_t t = 0; t < shape.tokens; t += tokens_a_call)
      for (int64_t b = 0; b < blocks; b += blocks_a_call)
        kernel.score({.kv = kv,
                      .heads = shape.heads,
                      .scale = scale(),
                      .tokens = std::min(tokens_a_call, shape.tokens - t),
                      .q = q.data() + t * shape.heads * shape.dim,
                      .q_stride = shape.heads * shape.dim,
                      .w = w.data() + t * shape.heads,
                      .w_stride = shape.heads,
                      .pool = pool,
                      .block_stride = stride,
                      .table = table.data(),
                      .block_begin = b,
                      .block_end = std::min(b + blocks_a_call, blocks),
                      .scores = padded.data() + t * row + b * kBlockTokens,
                      .scores_stride = row,
                      .scratch = scratch.data()});
    for (int64_t t = 0; t < shape.tokens; ++t)
      out.insert(out.end(), padded.begin() + t * row, padded.begin() + t * row + shape.entries);
    return out;
  }

  // In double, of q and k as the cache's type rounds them; and the sum of all terms' sizes.
  std::pair<double, double> expected(int64_t t, int64_t entry) const {
    const auto rounded = [this](float x) {
      return double{kv.type == KvType::kF32 ? x : bf16_to_f32(f32_to_bf16(x))};
    };
    double sum = 0, size = 0;
    for (int64_t h = 0; h < shape.heads; ++h) {
      double dot = 0, terms = 0;
      for (int64_t i = 0; i < shape.dim; ++i) {
        const double term =
            rounded(q[(t * shape.heads + h) * shape.dim + i] * scale()) * rounded(k[entry * shape.dim + i]);
        dot += term;
        terms += std::abs(term);
      }
      sum += w[t * shape.heads + h] * std::max(dot, 0.0);
      size += std::abs(w[t * shape.heads + h]) * terms;
    }
    return {sum, size};
  }
};

TEST(Index, ScoresAreTheSumsInDouble) {
  for (const IndexKernel* kernel : runnable())
    for (const Shape& shape : kShapes) {
      const Sample sample(shape, *kernel);
      const std::vector<float> found = sample.scores(*kernel);
      for (int64_t t = 0; t < shape.tokens; ++t)
        for (int64_t e = 0; e < shape.entries; ++e) {
          const auto [sum, size] = sample.expected(t, e);
          ASSERT_NEAR(found[static_cast<size_t>(t * shape.entries + e)], sum, 2e-6 * size)
              << kernel->name << " heads " << shape.heads << " dim " << shape.dim << " entry " << e;
        }
    }
}

TEST(Index, CompanyNeverChangesABit) {
  for (const IndexKernel* kernel : runnable())
    for (const Shape& shape : kShapes) {
      const std::vector<float> whole = Sample(shape, *kernel).scores(*kernel);
      const Sample scattered(shape, *kernel, 2);
      for (const auto& [tokens, blocks] : {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {8, 1}, {1, 9}})
        EXPECT_EQ(whole, scattered.scores(*kernel, tokens, blocks)) << kernel->name << " " << shape.heads;
    }
}

TEST(Index, KernelsAgreeWithTheReference) {
  for (const IndexKernel* kernel : runnable()) {
    const IndexKernel* ref = find_index_kernel(kernel->type, Isa::kScalar);
    ASSERT_NE(ref, nullptr);
    for (const Shape& shape : kShapes) {
      const Sample sample(shape, *ref);
      const std::vector<float> expected = sample.scores(*ref), found = sample.scores(*kernel);
      for (size_t i = 0; i < found.size(); ++i)
        ASSERT_NEAR(found[i], expected[i], 2e-5f * std::sqrt(static_cast<float>(shape.heads)))
            << kernel->name;
    }
  }
}

// By a sort of everything: descending by score, then ascending by number.
std::vector<int32_t> sorted_choice(const std::vector<float>& scores, int64_t top) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](int32_t i) { return std::isnan(scores[i]) ? -INFINITY : scores[i]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    if (std::isnan(scores[a]) != std::isnan(scores[b])) return std::isnan(scores[b]);
    return rank(a) > rank(b);
  });
  order.resize(std::min(order.size(), static_cast<size_t>(top)));
  std::sort(order.begin(), order.end());
  order.resize(static_cast<size_t>(top), -1);
  return order;
}

TEST(ChooseEntries, IsTheSortOfEverything) {
  std::mt19937 generator(3);
  ChoiceRoom room;
  for (const int64_t count : {0, 1, 7, 8, 9, 64, 1000, 5000})
    for (const int64_t top : {1, 2, 8, 63, 64, 500, 6000})
      for (const int levels : {2, 17, 100000}) {  // few levels: many ties
        std::vector<float> scores(static_cast<size_t>(count));
        for (float& x : scores)
          x = (static_cast<float>(static_cast<int>(generator() % static_cast<uint32_t>(levels))) -
               static_cast<float>(levels / 2)) *
              0.37f;
        std::vector<int32_t> out(static_cast<size_t>(top), -5);
        choose_entries(scores.data(), count, top, out.data(), room);
        EXPECT_EQ(out, sorted_choice(scores, top)) << count << " " << top << " " << levels;
      }
}

TEST(ChooseEntries, StrangeNumbersHaveTheirPlace) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> scores = {nan, -0.0f, 0.0f, -inf, inf, -1e-45f, 1e-45f, -nan, 3e38f};
  ChoiceRoom room;
  for (int64_t top = 1; top <= 10; ++top) {
    std::vector<int32_t> out(static_cast<size_t>(top));
    choose_entries(scores.data(), static_cast<int64_t>(scores.size()), top, out.data(), room);
    EXPECT_EQ(out, sorted_choice(scores, top)) << top;
  }
}

TEST(Index, KernelsAreFoundForEveryTypeAndLevel) {
  for (const KvType type : {KvType::kF32, KvType::kBF16})
    for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
      const IndexKernel* found = find_index_kernel(type, isa);
      ASSERT_NE(found, nullptr);
      EXPECT_LE(found->isa, isa);
      for (const IndexKernel& other : index_kernels())
        EXPECT_FALSE(other.type == type && other.isa <= isa && other.isa > found->isa) << other.name;
    }
}

}  // namespace
}  // namespace fettle
