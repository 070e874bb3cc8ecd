// Sixteen lanes, one a row of a tile, in one register: what int8.h and floats.h are written in. Needs AVX-512
// F, BW, VL, DQ; the including file adds dot(). Include <immintrin.h>, <cstdint> and <cstddef> before.
#pragma once

#define FETTLE_INLINE inline __attribute__((always_inline))

namespace fettle::linear {
namespace {

using Ints = __m512i;
using Floats = __m512;

FETTLE_INLINE Ints load_ints(const std::byte* p) { return _mm512_loadu_si512(p); }
FETTLE_INLINE void store_ints(std::byte* p, Ints v) { _mm512_storeu_si512(p, v); }
FETTLE_INLINE Ints zero_ints() { return _mm512_setzero_si512(); }
FETTLE_INLINE Ints splat(uint32_t v) { return _mm512_set1_epi32(static_cast<int32_t>(v)); }
FETTLE_INLINE Ints splat_from(const int32_t* p) { return _mm512_set1_epi32(*p); }
FETTLE_INLINE Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
FETTLE_INLINE Ints bit_or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
FETTLE_INLINE Ints bit_xor(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
template <int kBits>
FETTLE_INLINE Ints shift_right(Ints v) {
  return kBits == 0 ? v : _mm512_srli_epi32(v, kBits);
}
template <int kBits>
FETTLE_INLINE Ints shift_right_signed(Ints v) {
  return _mm512_srai_epi32(v, kBits);
}
template <int kBits>
FETTLE_INLINE Ints shift_left(Ints v) {
  return kBits == 0 ? v : _mm512_slli_epi32(v, kBits);
}
FETTLE_INLINE Ints add_bytes(Ints a, Ints b) { return _mm512_add_epi8(a, b); }
FETTLE_INLINE Ints sub_bytes(Ints a, Ints b) { return _mm512_sub_epi8(a, b); }
FETTLE_INLINE Ints multiply_words(Ints a, Ints b) { return _mm512_mullo_epi16(a, b); }

// Byte i of each 16 = table[index[i]] of the same 16 bytes; table16 repeats one table of 16 bytes.
FETTLE_INLINE Ints lookup(Ints table, Ints index) { return _mm512_shuffle_epi8(table, index); }
FETTLE_INLINE Ints table16(const void* table) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(table)));
}
// Byte by byte: (bits & mask) != 0 ? yes : no.
FETTLE_INLINE Ints select_bits(Ints bits, Ints mask, Ints yes, Ints no) {
  return _mm512_mask_blend_epi8(_mm512_test_epi8_mask(bits, mask), no, yes);
}
// Lane by lane: a == b ? yes : no.
FETTLE_INLINE Ints select_equal(Ints a, Ints b, Ints yes, Ints no) {
  return _mm512_mask_blend_epi32(_mm512_cmpeq_epi32_mask(a, b), no, yes);
}

FETTLE_INLINE Ints load_bytes(const std::byte* p) {  // 16 bytes, zero-extended
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FETTLE_INLINE Floats load_halves(const std::byte* p) {  // 16 f16
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FETTLE_INLINE Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
FETTLE_INLINE void store_floats(float* p, Floats v) { _mm512_storeu_ps(p, v); }
FETTLE_INLINE Floats zero_floats() { return _mm512_setzero_ps(); }
FETTLE_INLINE Floats splat_float(const float* p) { return _mm512_set1_ps(*p); }
FETTLE_INLINE Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
FETTLE_INLINE Floats as_floats(Ints v) { return _mm512_castsi512_ps(v); }
FETTLE_INLINE Ints as_ints(Floats v) { return _mm512_castps_si512(v); }
FETTLE_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
FETTLE_INLINE Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
FETTLE_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

FETTLE_INLINE __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
FETTLE_INLINE Floats load_part(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(first_lanes(count), p);
}
FETTLE_INLINE void store_part(float* p, Floats v, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), v);
}

}  // namespace
}  // namespace fettle::linear
