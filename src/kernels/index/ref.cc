// The definition of scores, entry by entry.
#include <algorithm>

#include "kernels/index/kernels.h"
#include "tensor/numbers.h"

namespace fettle {
namespace {

struct F32Keys {
  static float round(float x) { return x; }
  static float k(const BlockLayout& layout, const std::byte* block, int64_t slot, int64_t i) {
    return reinterpret_cast<const float*>(block)[layout.k_word(slot, i)];
  }
};

struct Bf16Keys {
  static float round(float x) { return bf16_to_f32(f32_to_bf16(x)); }
  static float k(const BlockLayout& layout, const std::byte* block, int64_t slot, int64_t i) {
    return bf16_to_f32(reinterpret_cast<const uint16_t*>(block)[layout.k_word(slot, i / 2) * 2 + i % 2]);
  }
};

template <class Keys>
void score(const IndexArgs& args) {
  const BlockLayout layout(args.kv);
  const int64_t dim = args.kv.k_dim;
  for (int64_t t = 0; t < args.tokens; ++t) {
    const float *q = args.q + t * args.q_stride, *w = args.w + t * args.w_stride;
    for (int64_t b = args.block_begin; b < args.block_end; ++b) {
      const std::byte* block = args.pool + args.table[b] * args.block_stride;
      float* scores = args.scores + t * args.scores_stride + (b - args.block_begin) * kBlockTokens;
      for (int64_t slot = 0; slot < kBlockTokens; ++slot) {
        float sum = 0.0f;
        for (int64_t h = 0; h < args.heads; ++h) {
          float dot = 0.0f;
          for (int64_t i = 0; i < dim; ++i)
            dot += Keys::round(q[h * dim + i] * args.scale) * Keys::k(layout, block, slot, i);
          sum += w[h] * (dot > 0.0f ? dot : 0.0f);
        }
        scores[slot] = sum;
      }
    }
  }
}

}  // namespace

void score_f32_ref(const IndexArgs& args) { score<F32Keys>(args); }
void score_bf16_ref(const IndexArgs& args) { score<Bf16Keys>(args); }

}  // namespace fettle
