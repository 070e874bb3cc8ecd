#include "kernels/attention/layout.h"

#include "tensor/numbers.h"

namespace fettle {
namespace {

void write_f32(const BlockLayout& layout, const KvShape& shape, const float* k, const float* v, float* words,
               int64_t slot) {
  for (int64_t i = 0; i < shape.k_dim; ++i) words[layout.k_word(slot, i)] = k[i];
  for (int64_t c = 0; c < shape.v_dim && !shape.latent; ++c) words[layout.v_word(slot, c)] = v[c];
}

void write_bf16(const BlockLayout& layout, const KvShape& shape, const float* k, const float* v,
                uint16_t* codes, int64_t slot) {
  for (int64_t i = 0; i < shape.k_dim; ++i) codes[layout.k_word(slot, i / 2) * 2 + i % 2] = f32_to_bf16(k[i]);
  if (shape.k_dim % 2 != 0) codes[layout.k_word(slot, layout.k_words - 1) * 2 + 1] = 0;
  for (int64_t c = 0; c < shape.v_dim && !shape.latent; ++c)
    codes[layout.v_word(slot, c) * 2 + slot % 2] = f32_to_bf16(v[c]);
}

}  // namespace

int64_t kv_block_bytes(const KvShape& shape) {
  return shape.kv_heads * BlockLayout(shape).head_words() * int64_t{sizeof(float)};
}

void v_of_k(const KvShape& shape, const float* k_part, float* v_part) {
  const BlockLayout layout(shape);
  const int64_t numbers = layout.v_step;  // in a word
  const auto* k = reinterpret_cast<const uint32_t*>(k_part);
  auto* v = reinterpret_cast<uint32_t*>(v_part);
  for (int64_t slot = 0; slot < kBlockTokens; slot += numbers) {
    uint32_t* row = v + slot / numbers * layout.v_padded;
    const uint32_t* column = k + layout.k_word(slot, 0);
    if (numbers == 1) {
      for (int64_t c = 0; c < shape.v_dim; ++c) row[c] = column[c * kLanes];
      continue;
    }
    for (int64_t c = 0; c < shape.v_dim; c += 2) {
      const uint32_t first = column[c / 2 * kLanes], second = column[c / 2 * kLanes + 1];
      row[c] = (first & 0xffff) | second << 16;
      if (c + 1 < shape.v_dim) row[c + 1] = first >> 16 | (second & 0xffff0000U);
    }
  }
}

void copy_kv(const KvShape& shape, const std::byte* from, int64_t from_slot, std::byte* to, int64_t to_slot) {
  const BlockLayout layout(shape);
  for (int64_t h = 0; h < shape.kv_heads; ++h) {
    const int64_t head = h * layout.head_words() * int64_t{sizeof(float)};
    const auto* k = reinterpret_cast<const uint32_t*>(from + head) + layout.k_word(from_slot, 0);
    auto* to_k = reinterpret_cast<uint32_t*>(to + head) + layout.k_word(to_slot, 0);
    for (int64_t i = 0; i < layout.k_words; ++i) to_k[i * kLanes] = k[i * kLanes];
    if (shape.latent) continue;
    if (layout.v_step == 1) {
      for (int64_t c = 0; c < shape.v_dim; ++c)
        reinterpret_cast<uint32_t*>(to + head)[layout.v_word(to_slot, c)] =
            reinterpret_cast<const uint32_t*>(from + head)[layout.v_word(from_slot, c)];
      continue;
    }
    for (int64_t c = 0; c < shape.v_dim; ++c)
      reinterpret_cast<uint16_t*>(to + head)[layout.v_word(to_slot, c) * 2 + to_slot % 2] =
          reinterpret_cast<const uint16_t*>(from + head)[layout.v_word(from_slot, c) * 2 + from_slot % 2];
  }
}

void write_kv(const KvShape& shape, const float* k, const float* v, std::byte* block, int64_t slot) {
  const BlockLayout layout(shape);
  for (int64_t h = 0; h < shape.kv_heads; ++h, k += shape.k_dim, v += shape.v_dim) {
    std::byte* head = block + h * layout.head_words() * int64_t{sizeof(float)};
    if (shape.type == KvType::kBF16)
      write_bf16(layout, shape, k, v, reinterpret_cast<uint16_t*>(head), slot);
    else
      write_f32(layout, shape, k, v, reinterpret_cast<float*>(head), slot);
  }
}

}  // namespace fettle
