// moves.h's operations on words in pairs of 256-bit registers. Include after bf16_avx2.h.
#pragma once

namespace fettle {
namespace {

inline __m256 shift_down(__m256 x) {
  return _mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(x), 16));
}
inline F32x16 pair_words(F32x16 low, F32x16 high) {
  return {_mm256_or_ps(shift_down(low.low), and_bits(high.low, -0x10000)),
          _mm256_or_ps(shift_down(low.high), and_bits(high.high, -0x10000))};
}

inline __m256 int8_half(const std::byte* codes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes))));
}
inline F32x16 int8_numbers(const std::byte* codes) { return {int8_half(codes), int8_half(codes + 8)}; }
inline __m256 e4m3_half(const std::byte* codes) {
  const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  const __m256i size = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
  const __m256 moved = _mm256_castsi256_ps(_mm256_slli_epi32(size, 20));
  const __m256 number = _mm256_mul_ps(moved, _mm256_set1_ps(0x1p120f));
  const __m256i sign = _mm256_slli_epi32(_mm256_sub_epi32(code, size), 24);
  const __m256i nan = _mm256_cmpeq_epi32(size, _mm256_set1_epi32(0x7f));
  return _mm256_or_ps(_mm256_or_ps(number, _mm256_castsi256_ps(sign)), _mm256_castsi256_ps(nan));
}
inline F32x16 e4m3_numbers(const std::byte* codes) { return {e4m3_half(codes), e4m3_half(codes + 8)}; }

// Quarters 0 2 1 3.
inline __m256 swap_middle(__m256 x) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
}
inline void deinterleave(F32x16 a, F32x16 b, F32x16* even, F32x16* odd) {
  even->low = swap_middle(_mm256_shuffle_ps(a.low, a.high, 0x88));
  odd->low = swap_middle(_mm256_shuffle_ps(a.low, a.high, 0xdd));
  even->high = swap_middle(_mm256_shuffle_ps(b.low, b.high, 0x88));
  odd->high = swap_middle(_mm256_shuffle_ps(b.low, b.high, 0xdd));
}
inline void interleave_half(__m256 even, __m256 odd, F32x16* out) {
  const __m256 first = _mm256_unpacklo_ps(even, odd), second = _mm256_unpackhi_ps(even, odd);
  out->low = _mm256_permute2f128_ps(first, second, 0x20);
  out->high = _mm256_permute2f128_ps(first, second, 0x31);
}
inline void interleave(F32x16 even, F32x16 odd, F32x16* a, F32x16* b) {
  interleave_half(even.low, odd.low, a);
  interleave_half(even.high, odd.high, b);
}

inline void transpose_eight(__m256 (&x)[8]) {
  __m256 twos[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    twos[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    twos[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      fours[i + 2 * j] = _mm256_shuffle_ps(twos[i + j], twos[i + j + 2], 0x44);
      fours[i + 2 * j + 1] = _mm256_shuffle_ps(twos[i + j], twos[i + j + 2], 0xee);
    }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    x[j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
    x[4 + j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
  }
}
inline void transpose(F32x16 (&x)[16]) {
  __m256 quarters[4][8];
  for (int i = 0; i < 8; ++i) {
    quarters[0][i] = x[i].low;
    quarters[1][i] = x[8 + i].low;
    quarters[2][i] = x[i].high;
    quarters[3][i] = x[8 + i].high;
  }
  for (auto& quarter : quarters) transpose_eight(quarter);
  for (int i = 0; i < 8; ++i) {
    x[i] = {quarters[0][i], quarters[1][i]};
    x[8 + i] = {quarters[2][i], quarters[3][i]};
  }
}

}  // namespace
}  // namespace fettle
