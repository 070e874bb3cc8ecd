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
      : k_words(shape.type == KvType::kF32 ? shape.k_dim : (shape.k_dim + 1) / 2),
        v_step(shape.type == KvType::kF32 ? 1 : 2),
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

// A block of a coded cache (one head): for each 16 positions a part of
//   codes   [c < v_dim][16]                 bytes
//   words   [i < k_words - v_dim / 2][16]   what follows the values in K, as in a bf16 block
//   scales  [g < ceil(v_dim / 128)][16]     fp32
// BlockLayout describes the bf16 block it stands for.
struct CodedLayout {
  static constexpr int64_t kGroup = 128;  // codes under one scale
  int64_t v_dim, words, groups;

  explicit CodedLayout(const KvShape& shape)
      : v_dim(shape.v_dim),
        words((shape.k_dim + 1) / 2 - shape.v_dim / 2),
        groups((shape.v_dim + kGroup - 1) / kGroup) {}

  int64_t words_at() const { return (v_dim * kLanes + 63) / 64 * 64; }
  int64_t scales_at() const { return words_at() + words * kLanes * int64_t{sizeof(float)}; }
  int64_t part_bytes() const { return scales_at() + groups * kLanes * int64_t{sizeof(float)}; }
  int64_t block_bytes() const { return kBlockTokens / kLanes * part_bytes(); }

  // Of one position; what follows of the same position lies kLanes elements on.
  template <typename Byte>
  struct Place {
    Byte *codes, *words, *scales;
  };
  template <typename Byte>
  Place<Byte> place(Byte* block, int64_t slot) const {
    Byte* part = block + slot / kLanes * part_bytes();
    const int64_t lane = slot % kLanes;
    return {part + lane, part + words_at() + lane * int64_t{sizeof(float)},
            part + scales_at() + lane * int64_t{sizeof(float)}};
  }
};

// WriteKvFn of every kernel.
void write_kv(const KvShape& shape, const float* k, const float* v, std::byte* block, int64_t slot);

}  // namespace fettle
