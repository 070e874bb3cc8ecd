// moves.h's operations on words in 512-bit registers. Include after bf16_avx512.h.
#pragma once

namespace fettle {
namespace {

inline F32x16 pair_words(F32x16 low, F32x16 high) {
  return numbers_of(_mm512_or_si512(_mm512_srli_epi32(bits_of(low), 16), bits_of(odd_numbers(high))));
}

inline F32x16 int8_numbers(const std::byte* codes) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
inline F32x16 e4m3_numbers(const std::byte* codes) {
  const __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const __m512i size = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
  const __m512 moved = _mm512_castsi512_ps(_mm512_slli_epi32(size, 20));
  const __m512i number = _mm512_castps_si512(_mm512_mul_ps(moved, _mm512_set1_ps(0x1p120f)));
  const __m512i sign = _mm512_slli_epi32(_mm512_sub_epi32(code, size), 24);
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(size, _mm512_set1_epi32(0x7f));
  return numbers_of(_mm512_mask_mov_epi32(_mm512_or_si512(number, sign), nan, _mm512_set1_epi32(0x7fc00000)));
}

inline __m512i lane_numbers(int first, int step) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_add_epi32(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(step)), _mm512_set1_epi32(first));
}
inline void deinterleave(F32x16 a, F32x16 b, F32x16* even, F32x16* odd) {
  even->v = _mm512_permutex2var_ps(a.v, lane_numbers(0, 2), b.v);
  odd->v = _mm512_permutex2var_ps(a.v, lane_numbers(1, 2), b.v);
}
inline void interleave(F32x16 even, F32x16 odd, F32x16* a, F32x16* b) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  a->v = _mm512_permutex2var_ps(even.v, first, odd.v);
  b->v = _mm512_permutex2var_ps(even.v, _mm512_add_epi32(first, _mm512_set1_epi32(8)), odd.v);
}

// Pairs of rows, then pairs of pairs, within 128-bit parts; then the parts.
inline void transpose(F32x16 (&x)[16]) {
  __m512 twos[16], fours[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    twos[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    twos[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const __m512d a = _mm512_castps_pd(twos[i + j]), b = _mm512_castps_pd(twos[i + j + 2]);
      fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xdd);
    x[j].v = _mm512_shuffle_f32x4(a, c, 0x88);
    x[8 + j].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    x[4 + j].v = _mm512_shuffle_f32x4(b, d, 0x88);
    x[12 + j].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

}  // namespace
}  // namespace fettle
