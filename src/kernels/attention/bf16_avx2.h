// What bf16_form.h needs, with 256-bit registers.
#pragma once

namespace fettle {
namespace {

inline __m256 and_bits(__m256 x, int bits) {
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(bits)));
}
inline __m256 shift_up(__m256 x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 16));
}
inline __m256 round_half(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 rounded = and_bits(_mm256_castsi256_ps(up), -0x10000);
  return _mm256_blendv_ps(rounded, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

inline F32x16 even_numbers(F32x16 words) { return {shift_up(words.low), shift_up(words.high)}; }
inline F32x16 odd_numbers(F32x16 words) {
  return {and_bits(words.low, -0x10000), and_bits(words.high, -0x10000)};
}
inline F32x16 without_odd(F32x16 words) {
  return {and_bits(words.low, 0xffff), and_bits(words.high, 0xffff)};
}
inline F32x16 round_bf16(F32x16 x) { return {round_half(x.low), round_half(x.high)}; }

}  // namespace
}  // namespace fettle
