// The definition of attention, row by row. A bf16 cache means: q (after scaling) and the softmax weights are
// rounded to bf16 as K and V are, products and sums are fp32, and a weight counts in the sum as it was
// rounded, so that the weights add up to one. A coded cache is a bf16 cache whose numbers are bf16(code *
// scale).
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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

// The K part of the bf16 block that a coded one stands for.
void open_block(const KvShape& shape, const std::byte* block, std::byte* opened) {
  const BlockLayout layout(shape);
  const CodedLayout coded(shape);
  const auto number = [&](const std::byte code) {
    const auto bits = static_cast<uint8_t>(code);
    return shape.type == KvType::kInt8 ? static_cast<float>(static_cast<int8_t>(bits)) : e4m3_to_f32(bits);
  };
  for (int64_t slot = 0; slot < kBlockTokens; ++slot) {
    const auto place = coded.place(block, slot);
    const auto* scales = reinterpret_cast<const float*>(place.scales);
    const auto* words = reinterpret_cast<const uint32_t*>(place.words);
    auto* codes = reinterpret_cast<uint16_t*>(opened);
    for (int64_t c = 0; c < shape.v_dim; ++c)
      codes[layout.k_word(slot, c / 2) * 2 + c % 2] =
          f32_to_bf16(number(place.codes[c * kLanes]) * scales[c / CodedLayout::kGroup * kLanes]);
    for (int64_t i = shape.v_dim / 2; i < layout.k_words; ++i)
      reinterpret_cast<uint32_t*>(opened)[layout.k_word(slot, i)] = words[(i - shape.v_dim / 2) * kLanes];
  }
}

template <class Cache>
void attend(const AttentionArgs& args) {
  check_attention_args(args);
  const BlockLayout layout(args.kv);
  const int64_t split_begin = args.split * kSplitTokens;
  float* q = args.scratch;
  auto* opened = reinterpret_cast<std::byte*>(q + args.kv.k_dim + 2 + args.kv.v_dim);
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
      if (is_coded(args.kv.type)) {
        open_block(args.kv, block, opened);
        head = opened;
      }
      add_block<Cache>(layout, args.kv, head, std::min(end - position, kBlockTokens), q, running);
    }
    if (row.partial == nullptr) merge_splits(running, 0, 1, args.kv.v_dim, row.out);
  }
}

template <class Cache>
void read_rows(const KvShape& shape, const std::byte* block, int64_t count, float* k, int64_t stride) {
  const BlockLayout layout(shape);
  for (int64_t slot = 0; slot < count; ++slot)
    for (int64_t i = 0; i < shape.k_dim; ++i) k[slot * stride + i] = Cache::k(layout, block, slot, i);
}

}  // namespace

void pack_block_ref(const KvShape& shape, const BlockRows& rows, std::byte* block) {
  for (int64_t slot = 0; slot < rows.count; ++slot)
    write_kv(shape, rows.k + slot * rows.k_stride, rows.v + slot * rows.v_stride, block, slot);
}
void read_block_ref(const KvShape& shape, const std::byte* block, int64_t count, float* k, int64_t stride) {
  std::vector<float> opened;
  if (is_coded(shape.type)) {
    opened.resize(static_cast<size_t>(BlockLayout(shape).k_part_words()));
    open_block(shape, block, reinterpret_cast<std::byte*>(opened.data()));
    block = reinterpret_cast<const std::byte*>(opened.data());
  }
  if (shape.type == KvType::kF32)
    read_rows<F32Cache>(shape, block, count, k, stride);
  else
    read_rows<Bf16Cache>(shape, block, count, k, stride);
}
void attend_f32_ref(const AttentionArgs& args) { attend<F32Cache>(args); }
void attend_bf16_ref(const AttentionArgs& args) { attend<Bf16Cache>(args); }

}  // namespace fettle
