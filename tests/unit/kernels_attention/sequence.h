// One random sequence with a paged cache, fed to an attention kernel in any way that promises the same bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"

namespace fettle {

struct SequenceShape {
  int64_t heads, kv_heads, k_dim, v_dim, length;
  bool latent = false;
};

// How the tokens are fed; every choice must give the same results.
struct Feeding {
  int64_t chunk = 1 << 20;          // tokens a step
  int64_t tokens_a_call = 1 << 20;  // a step's tokens are shared out in calls of so many
  bool always_partial = false;      // partial results and a merge even where one split is enough
  bool merge_empty_splits = false;  // rows are merged with splits that lie beyond them
  bool packed = false;   // a step's positions are stored a block at a time; needs chunks of whole blocks
  uint32_t scatter = 1;  // seed of the blocks' order
};

struct Sequence {
  SequenceShape shape;
  float scale;
  std::vector<float> q, k, v;

  explicit Sequence(const SequenceShape& s, uint32_t seed = 1, float q_spread = 1.0f) : shape(s) {
    scale = 1.0f / std::sqrt(static_cast<float>(s.k_dim));
    std::mt19937 generator(seed);
    q = numbers(generator, s.heads * s.k_dim, q_spread);
    k = numbers(generator, s.kv_heads * s.k_dim, 1.0f);
    v = numbers(generator, s.kv_heads * s.v_dim, 1.0f);
    for (int64_t t = 0; s.latent && t < s.length; ++t)
      std::copy_n(k.data() + t * s.k_dim, s.v_dim, v.data() + t * s.v_dim);
  }

  // out[token][head][v_dim]
  std::vector<float> attend(const AttentionKernel& kernel, const Feeding& feeding = {}) const {
    const KvShape kv = {kernel.type, shape.kv_heads, shape.k_dim, shape.v_dim, shape.latent};
    const int64_t blocks = (shape.length + kBlockTokens - 1) / kBlockTokens, stride = kv_block_bytes(kv) + 64;
    // Twice the blocks needed; every byte starts as part of a NaN.
    std::vector<std::byte> storage(static_cast<size_t>(2 * blocks * stride + 64), std::byte{0xff});
    std::byte* pool = align(storage.data());
    std::vector<int32_t> table(static_cast<size_t>(2 * blocks));
    std::iota(table.begin(), table.end(), 0);
    std::mt19937 generator(feeding.scatter);
    std::shuffle(table.begin(), table.end(), generator);

    std::vector<float> out(static_cast<size_t>(shape.length * shape.heads * shape.v_dim), -777.0f);
    for (int64_t begin = 0; begin < shape.length; begin += feeding.chunk) {
      const int64_t count = std::min(feeding.chunk, shape.length - begin);
      for (int64_t t = begin; feeding.packed && t < begin + count; t += kBlockTokens)
        kernel.pack_block(kv,
                          {k.data() + t * shape.k_dim, shape.k_dim, v.data() + t * shape.v_dim, shape.v_dim,
                           std::min(kBlockTokens, begin + count - t)},
                          pool + table[t / kBlockTokens] * stride);
      for (int64_t t = begin; !feeding.packed && t < begin + count; ++t)
        kernel.write_kv(kv, k.data() + t * shape.kv_heads * shape.k_dim,
                        v.data() + t * shape.kv_heads * shape.v_dim, pool + table[t / kBlockTokens] * stride,
                        t % kBlockTokens);
      AttentionArgs args = {};
      args.kv = kv;
      args.heads = shape.heads;
      args.scale = scale;
      args.q_stride = shape.heads * shape.k_dim;
      args.q = q.data() + begin * args.q_stride;
      args.out_stride = shape.heads * shape.v_dim;
      args.out = out.data() + begin * args.out_stride;
      args.pool = pool;
      args.block_stride = stride;
      args.table = table.data();
      args.first_position = begin;
      step(kernel, args, count, feeding);
    }
    return out;
  }

 private:
  std::vector<float> numbers(std::mt19937& generator, int64_t per_token, float spread) const {
    std::normal_distribution<float> normal(0.0f, spread);
    std::vector<float> all(static_cast<size_t>(shape.length * per_token));
    for (float& x : all) x = normal(generator);
    return all;
  }
  static std::byte* align(std::byte* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64; }

  void step(const AttentionKernel& kernel, AttentionArgs args, int64_t count, const Feeding& feeding) const {
    std::vector<float> scratch(static_cast<size_t>(attention_scratch_floats(args.kv, shape.heads)));
    args.scratch = scratch.data();
    for (args.kv_head = 0; args.kv_head < shape.kv_heads; ++args.kv_head)
      for (int64_t begin = 0; begin < count; begin += feeding.tokens_a_call) {
        args.token_begin = begin;
        args.token_end = std::min(begin + feeding.tokens_a_call, count);
        call(kernel, args, feeding);
      }
  }

  void call(const AttentionKernel& kernel, AttentionArgs args, const Feeding& feeding) const {
    const int64_t splits = (args.first_position + args.token_end - 1) / kSplitTokens + 1;
    args.split = 0;
    args.partial = nullptr;
    if (splits == 1 && !feeding.always_partial) return kernel.run(args);

    const int64_t group = shape.heads / shape.kv_heads, row_floats = 2 + shape.v_dim;
    const int64_t stride = (args.token_end - args.token_begin) * group * row_floats;
    std::vector<float> partials(static_cast<size_t>(splits * stride), -777.0f);
    for (args.split = 0; args.split < splits; ++args.split) {
      args.partial = partials.data() + args.split * stride;
      kernel.run(args);
    }
    for (int64_t t = args.token_begin; t < args.token_end; ++t)
      for (int64_t g = 0; g < group; ++g) {
        const int64_t needed = (args.first_position + t) / kSplitTokens + 1;
        merge_splits(partials.data() + ((t - args.token_begin) * group + g) * row_floats, stride,
                     feeding.merge_empty_splits ? splits : needed, shape.v_dim,
                     args.out + t * args.out_stride + (args.kv_head * group + g) * shape.v_dim);
      }
  }
};

}  // namespace fettle
