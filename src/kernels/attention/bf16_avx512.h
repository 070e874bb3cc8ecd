// What bf16_form.h needs, with 512-bit registers.
#pragma once

namespace fettle {
namespace {

inline __m512i bits_of(F32x16 x) { return _mm512_castps_si512(x.v); }
inline F32x16 numbers_of(__m512i bits) { return {_mm512_castsi512_ps(bits)}; }

inline F32x16 even_numbers(F32x16 words) { return numbers_of(_mm512_slli_epi32(bits_of(words), 16)); }
inline F32x16 odd_numbers(F32x16 words) {
  return numbers_of(_mm512_and_si512(bits_of(words), _mm512_set1_epi32(-0x10000)));
}
inline F32x16 without_odd(F32x16 words) {
  return numbers_of(_mm512_and_si512(bits_of(words), _mm512_set1_epi32(0xffff)));
}
inline F32x16 round_bf16(F32x16 x) {
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits_of(x), 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits_of(x), _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const F32x16 rounded = odd_numbers(numbers_of(up));
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), rounded.v, x.v)};
}

}  // namespace
}  // namespace fettle
