// Rows of numbers into blocks of the cache and out of them, 16 positions by 16 words at a time; written once
// over vec16.h and an ISA's words_*.h:
//   even_numbers, odd_numbers   the first, the second bf16 number of every word, as fp32
//   without_odd                 the second number replaced by zero
//   round_bf16                  to nearest even; NaN stays NaN
//   pair_words                  words of numbers that are rounded already
//   interleave, deinterleave    (a0, b0, a1, b1, ...) of (a, b), and back
//   transpose                   of 16 by 16 words
//   int8_numbers, e4m3_numbers  of 16 codes
#pragma once

namespace fettle {
namespace {

struct F32Words {
  static constexpr int64_t kNumbers = 1;  // in a word
  // Numbers [at, at + 16 * kNumbers) of a row as words; zero from `left` numbers on.
  static F32x16 gather(const float* row, int64_t left) { return load_part(row, left); }
  static void spread(F32x16 words, float* row, int64_t left) { store_part(row, words, left); }
};
struct Bf16Words {
  static constexpr int64_t kNumbers = 2;
  static F32x16 gather(const float* row, int64_t left) {
    F32x16 even, odd;
    deinterleave(load_part(row, left),
                 left > kLanes ? load_part(row + kLanes, left - kLanes) : broadcast(0.0f), &even, &odd);
    return pair_words(round_bf16(even), round_bf16(odd));
  }
  static void spread(F32x16 words, float* row, int64_t left) {
    F32x16 a, b;
    interleave(even_numbers(words), odd_numbers(words), &a, &b);
    store_part(row, a, left);
    if (left > kLanes) store_part(row + kLanes, b, left - kLanes);
  }
};

// Word i of the K of the 16 positions from `slot` on: of a block as it is, or of a coded one.
struct StoredK {
  BlockLayout layout;
  const float* k_part;
  F32x16 operator()(int64_t slot, int64_t i) const { return load(k_part + layout.k_word(slot, i)); }
};
template <F32x16 (*numbers)(const std::byte*)>
struct CodedK {
  CodedLayout layout;
  const std::byte* block;
  F32x16 operator()(int64_t slot, int64_t i) const {
    const auto place = layout.place(block, slot);
    const int64_t c = 2 * i;
    if (c >= layout.v_dim)
      return load(reinterpret_cast<const float*>(place.words) + (c - layout.v_dim) / 2 * kLanes);
    const F32x16 scale =
        load(reinterpret_cast<const float*>(place.scales) + c / CodedLayout::kGroup * kLanes);
    const std::byte* codes = place.codes + c * kLanes;
    return pair_words(round_bf16(mul(numbers(codes), scale)),
                      round_bf16(mul(numbers(codes + kLanes), scale)));
  }
};

// Words [word, word + 16) of the 16 positions from `slot` on, a vector each position.
template <class K>
void load_positions(const K& k, int64_t k_words, int64_t slot, int64_t word, F32x16 (&x)[16]) {
  const int64_t count = std::min(k_words - word, kLanes);
  for (int64_t i = 0; i < kLanes; ++i) x[i] = i < count ? k(slot, word + i) : broadcast(0.0f);
  transpose(x);
}

template <class Words, class K>
void read_rows(const KvShape& shape, const K& stored, int64_t count, float* k, int64_t stride) {
  const BlockLayout layout(shape);
  F32x16 x[16];
  for (int64_t slot = 0; slot < count; slot += kLanes)
    for (int64_t word = 0; word < layout.k_words; word += kLanes) {
      load_positions(stored, layout.k_words, slot, word, x);
      const int64_t at = word * Words::kNumbers;
      for (int64_t i = 0; i < kLanes && slot + i < count; ++i)
        Words::spread(x[i], k + (slot + i) * stride + at, shape.k_dim - at);
    }
}

// The K part that a coded block stands for.
template <class K>
void open_block(const BlockLayout& layout, const K& coded, float* k_part) {
  for (int64_t slot = 0; slot < kBlockTokens; slot += kLanes)
    for (int64_t i = 0; i < layout.k_words; ++i) store(k_part + layout.k_word(slot, i), coded(slot, i));
}
inline void open_block(const KvShape& shape, const std::byte* block, float* k_part) {
  const BlockLayout layout(shape);
  const CodedLayout coded(shape);
  if (shape.type == KvType::kInt8)
    open_block(layout, CodedK<int8_numbers>{coded, block}, k_part);
  else
    open_block(layout, CodedK<e4m3_numbers>{coded, block}, k_part);
}

template <class Words>
void pack_k(const KvShape& shape, const BlockRows& rows, float* k_part) {
  const BlockLayout layout(shape);
  F32x16 x[16];
  for (int64_t slot = 0; slot < rows.count; slot += kLanes)
    for (int64_t word = 0; word < layout.k_words; word += kLanes) {
      const int64_t at = word * Words::kNumbers;
      for (int64_t i = 0; i < kLanes; ++i)
        x[i] = slot + i < rows.count
                   ? Words::gather(rows.k + (slot + i) * rows.k_stride + at, shape.k_dim - at)
                   : broadcast(0.0f);
      transpose(x);
      for (int64_t i = 0; i < kLanes && word + i < layout.k_words; ++i)
        store(k_part + layout.k_word(slot, word + i), x[i]);
    }
}

template <class Words>
void pack_v(const KvShape& shape, const BlockRows& rows, float* head) {
  const BlockLayout layout(shape);
  const auto row = [&](int64_t slot, int64_t c) {
    return slot < rows.count ? load_part(rows.v + slot * rows.v_stride + c, shape.v_dim - c)
                             : broadcast(0.0f);
  };
  for (int64_t slot = 0; slot < rows.count; slot += layout.v_step)
    for (int64_t c = 0; c < layout.v_padded; c += kLanes) {
      F32x16 words = row(slot, c);
      if constexpr (Words::kNumbers == 2) words = pair_words(round_bf16(words), round_bf16(row(slot + 1, c)));
      store(head + layout.v_word(slot, c), words);
    }
}

inline void pack_rows(const KvShape& shape, const BlockRows& rows, std::byte* block) {
  auto* head = reinterpret_cast<float*>(block);
  if (shape.type == KvType::kBF16) {
    pack_k<Bf16Words>(shape, rows, head);
    pack_v<Bf16Words>(shape, rows, head);
  } else {
    pack_k<F32Words>(shape, rows, head);
    pack_v<F32Words>(shape, rows, head);
  }
}

inline void read_block(const KvShape& shape, const std::byte* block, int64_t count, float* k,
                       int64_t stride) {
  const StoredK stored{BlockLayout(shape), reinterpret_cast<const float*>(block)};
  const CodedLayout coded(shape);
  switch (shape.type) {
    case KvType::kF32:
      return read_rows<F32Words>(shape, stored, count, k, stride);
    case KvType::kBF16:
      return read_rows<Bf16Words>(shape, stored, count, k, stride);
    case KvType::kInt8:
      return read_rows<Bf16Words>(shape, CodedK<int8_numbers>{coded, block}, count, k, stride);
    case KvType::kFp8:
      return read_rows<Bf16Words>(shape, CodedK<e4m3_numbers>{coded, block}, count, k, stride);
  }
}

// The V part of a latent head, made of its K part.
template <int numbers>
void v_of_k(const BlockLayout& layout, const float* k_part, float* v_part) {
  F32x16 x[16];
  for (int64_t slot = 0; slot < kBlockTokens; slot += kLanes)
    for (int64_t c = 0; c < layout.v_padded; c += kLanes * numbers) {
      load_positions(StoredK{layout, k_part}, layout.k_words, slot, c / numbers, x);
      float* row = v_part + slot / numbers * layout.v_padded + c;
      if constexpr (numbers == 1) {
        for (int64_t i = 0; i < kLanes; ++i) store(row + i * layout.v_padded, x[i]);
      } else {
        const bool second = c + kLanes < layout.v_padded;
        for (int64_t i = 0; i < kLanes; i += 2, row += layout.v_padded) {
          F32x16 a, b;
          interleave(pair_words(even_numbers(x[i]), even_numbers(x[i + 1])),
                     pair_words(odd_numbers(x[i]), odd_numbers(x[i + 1])), &a, &b);
          store(row, a);
          if (second) store(row + kLanes, b);
        }
      }
    }
}

}  // namespace
}  // namespace fettle
