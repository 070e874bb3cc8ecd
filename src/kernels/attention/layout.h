// The order inside a block of the cache, the same for every instruction set. Per kv head, a K part and then a
// V part, both made of 32-bit words that hold one fp32 number or two bf16 numbers (the first in the low
// half):
//   K  word [slot / 16][i < k_words][slot % 16]   lanes are positions; word i holds k[i] (fp32) or k[2i],
//   k[2i+1] (bf16) V  word [slot / step][c < v_padded]           lanes are columns;   a bf16 word holds v[c]
//   of slots 2j and 2j+1
// Padding words, and slots that were never written, may hold anything: kernels may load them, never let them
// reach a result.
#pragma once

#include "kernels/attention/attention.h"

namespace fettle {

inline constexpr int64_t kLanes = 16;

struct BlockLayout {
  int64_t k_words;   // of one position
  int64_t v_step;    // positions that share a word
  int64_t v_padded;  // v_dim rounded up to whole vectors
  bool latent;       // there is no V part; kernels make one of the K part, block by block

  explicit BlockLayout(const KvShape& shape)
      : k_words(shape.type == KvType::kBF16 ? (shape.k_dim + 1) / 2 : shape.k_dim),
        v_step(shape.type == KvType::kBF16 ? 2 : 1),
        v_padded((shape.v_dim + kLanes - 1) / kLanes * kLanes),
        latent(shape.latent) {}

  int64_t k_part_words() const { return kBlockTokens * k_words; }
  int64_t v_part_words() const { return kBlockTokens / v_step * v_padded; }
  int64_t head_words() const { return k_part_words() + (latent ? 0 : v_part_words()); }
  // Both within a head's words.
  int64_t k_word(int64_t slot, int64_t i) const {
    return (slot / kLanes * k_words + i) * kLanes + slot % kLanes;
  }
  int64_t v_word(int64_t slot, int64_t c) const { return k_part_words() + slot / v_step * v_padded + c; }
};

// The V part of a latent head, made of its K part.
void v_of_k(const KvShape& shape, const float* k_part, float* v_part);

// WriteKvFn of every kernel.
void write_kv(const KvShape& shape, const float* k, const float* v, std::byte* block, int64_t slot);

}  // namespace fettle
