// The definition of attention, row by row. A bf16 cache means: q (after scaling) and the softmax weights are
// rounded to bf16 as K and V are, products and sums are fp32, and a weight counts in the sum as it was
// rounded, so that the weights add up to one.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/kernels.h"
#include "tensor/numbers.h"

namespace fettle {
namespace {

struct F32Cache {
  static float round(float x) { return x; }
  static float k(const BlockLayout& layout, const std::byte* head, int64_t slot, int64_t i) {
    return reinterpret_cast<const float*>(head)[layout.k_word(slot, i)];
  }
  static float v(const BlockLayout& layout, const std::byte* head, int64_t slot, int64_t c) {
    return layout.latent ? k(layout, head, slot, c)
                         : reinterpret_cast<const float*>(head)[layout.v_word(slot, c)];
  }
};

struct Bf16Cache {
  static float round(float x) { return bf16_to_f32(f32_to_bf16(x)); }
  static float k(const BlockLayout& layout, const std::byte* head, int64_t slot, int64_t i) {
    return bf16_to_f32(reinterpret_cast<const uint16_t*>(head)[layout.k_word(slot, i / 2) * 2 + i % 2]);
  }
  static float v(const BlockLayout& layout, const std::byte* head, int64_t slot, int64_t c) {
    if (layout.latent) return k(layout, head, slot, c);
    return bf16_to_f32(reinterpret_cast<const uint16_t*>(head)[layout.v_word(slot, c) * 2 + slot % 2]);
  }
};

// Adds positions 0..count-1 of one block to the running result (maximum, sum, output).
template <class Cache>
void add_block(const BlockLayout& layout, const KvShape& shape, const std::byte* head, int64_t count,
               const float* q, float* running) {
  float weight[kBlockTokens];
  float top = running[0];
  for (int64_t slot = 0; slot < count; ++slot) {
    float score = 0.0f;
    for (int64_t i = 0; i < shape.k_dim; ++i) score += q[i] * Cache::k(layout, head, slot, i);
    weight[slot] = score;
    top = score > top ? score : top;
  }
  float sum = 0.0f;
  for (int64_t slot = 0; slot < count; ++slot) {
    weight[slot] = Cache::round(std::exp(weight[slot] - top));
    sum += weight[slot];
  }
  const float decay = std::exp(running[0] - top);
  running[0] = top;
  running[1] = running[1] * decay + sum;
  for (int64_t c = 0; c < shape.v_dim; ++c) {
    float out = running[2 + c] * decay;
    for (int64_t slot = 0; slot < count; ++slot) out += weight[slot] * Cache::v(layout, head, slot, c);
    running[2 + c] = out;
  }
}

template <class Cache>
void attend(const AttentionArgs& args) {
  check_attention_args(args);
  const BlockLayout layout(args.kv);
  const int64_t split_begin = args.split * kSplitTokens;
  float* q = args.scratch;
  for (int64_t r = 0; r < attention_row_count(args); ++r) {
    const AttentionRow row = attention_row(args, r);
    for (int64_t i = 0; i < args.kv.k_dim; ++i) q[i] = Cache::round(row.q[i] * args.scale);
    float* running = row.partial != nullptr ? row.partial : q + args.kv.k_dim;
    running[0] = -std::numeric_limits<float>::infinity();
    for (int64_t c = 0; c < 1 + args.kv.v_dim; ++c) running[1 + c] = 0.0f;

    const int64_t end = std::min(row.position + 1, split_begin + kSplitTokens);
    for (int64_t position = split_begin; position < end; position += kBlockTokens) {
      const std::byte* block = args.pool + args.table[position / kBlockTokens] * args.block_stride;
      const std::byte* head = block + args.kv_head * layout.head_words() * int64_t{sizeof(float)};
      add_block<Cache>(layout, args.kv, head, std::min(end - position, kBlockTokens), q, running);
    }
    if (row.partial == nullptr) merge_splits(running, 0, 1, args.kv.v_dim, row.out);
  }
}

}  // namespace

void attend_f32_ref(const AttentionArgs& args) { attend<F32Cache>(args); }
void attend_bf16_ref(const AttentionArgs& args) { attend<Bf16Cache>(args); }

}  // namespace fettle
