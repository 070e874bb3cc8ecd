#include "kernels/attention/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/float_groups.h"
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

// int8: scale = largest / 127, codes to nearest even. fp8: tensor/float_groups.h.
float code_group(KvType type, const float* x, int64_t n, uint8_t* codes) {
  if (type == KvType::kFp8) return quantise_e4m3_group(x, n, ScaleFormat::kF32, codes);
  float largest = 0.0f;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  const float factor = largest > 0.0f ? 127.0f / largest : 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float code = std::nearbyint(x[i] * factor);
    codes[i] =
        static_cast<uint8_t>(static_cast<int8_t>(code > -127.0f ? code < 127.0f ? code : 127.0f : -127.0f));
  }
  return largest / 127.0f;
}

void write_coded(const KvShape& shape, const float* k, std::byte* block, int64_t slot) {
  const CodedLayout layout(shape);
  const auto place = layout.place(block, slot);
  auto* words = reinterpret_cast<uint32_t*>(place.words);
  auto* scales = reinterpret_cast<float*>(place.scales);
  for (int64_t g = 0; g < layout.groups; ++g) {
    const int64_t begin = g * CodedLayout::kGroup, n = std::min(CodedLayout::kGroup, shape.v_dim - begin);
    uint8_t codes[CodedLayout::kGroup];
    scales[g * kLanes] = code_group(shape.type, k + begin, n, codes);
    for (int64_t i = 0; i < n; ++i) place.codes[(begin + i) * kLanes] = std::byte{codes[i]};
  }
  for (int64_t i = 0; i < layout.words; ++i) {
    const float* pair = k + shape.v_dim + 2 * i;
    const uint32_t second = shape.v_dim + 2 * i + 1 < shape.k_dim ? f32_to_bf16(pair[1]) : 0;
    words[i * kLanes] = f32_to_bf16(pair[0]) | second << 16;
  }
}

void copy_coded(const KvShape& shape, const std::byte* from, int64_t from_slot, std::byte* to,
                int64_t to_slot) {
  const CodedLayout layout(shape);
  const auto source = layout.place(from, from_slot);
  const auto target = layout.place(to, to_slot);
  const auto words = [](auto* bytes, int64_t i) { return bytes + i * kLanes * int64_t{sizeof(float)}; };
  for (int64_t c = 0; c < layout.v_dim; ++c) target.codes[c * kLanes] = source.codes[c * kLanes];
  for (int64_t i = 0; i < layout.words; ++i)
    std::memcpy(words(target.words, i), words(source.words, i), sizeof(float));
  for (int64_t g = 0; g < layout.groups; ++g)
    std::memcpy(words(target.scales, g), words(source.scales, g), sizeof(float));
}

}  // namespace

int64_t kv_block_bytes(const KvShape& shape) {
  if (is_coded(shape.type)) return CodedLayout(shape).block_bytes();
  return shape.kv_heads * BlockLayout(shape).head_words() * int64_t{sizeof(float)};
}

void copy_kv(const KvShape& shape, const std::byte* from, int64_t from_slot, std::byte* to, int64_t to_slot) {
  if (is_coded(shape.type)) return copy_coded(shape, from, from_slot, to, to_slot);
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
  if (is_coded(shape.type)) return write_coded(shape, k, block, slot);
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
