// Sixteen lanes, one a row of a tile, in two registers: what int8.h and floats.h are written in. Needs AVX2,
// FMA, F16C. Every function does what its namesake in simd_avx512.h does. Include <immintrin.h>, <cstdint>
// and <cstddef> before.
#pragma once

#define FETTLE_INLINE inline __attribute__((always_inline))

namespace fettle::linear {
namespace {

struct Ints {
  __m256i low, high;
};
struct Floats {
  __m256 low, high;
};

FETTLE_INLINE Ints load_ints(const std::byte* p) {
  const __m256i* q = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
FETTLE_INLINE void store_ints(std::byte* p, Ints v) {
  __m256i* q = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(q, v.low);
  _mm256_storeu_si256(q + 1, v.high);
}
FETTLE_INLINE Ints both(__m256i v) { return {v, v}; }
FETTLE_INLINE Ints zero_ints() { return both(_mm256_setzero_si256()); }
FETTLE_INLINE Ints splat(uint32_t v) { return both(_mm256_set1_epi32(static_cast<int32_t>(v))); }
FETTLE_INLINE Ints splat_from(const int32_t* p) { return both(_mm256_set1_epi32(*p)); }
FETTLE_INLINE Ints bit_and(Ints a, Ints b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
FETTLE_INLINE Ints bit_or(Ints a, Ints b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
FETTLE_INLINE Ints bit_xor(Ints a, Ints b) {
  return {_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)};
}
template <int kBits>
FETTLE_INLINE Ints shift_right(Ints v) {
  return {_mm256_srli_epi32(v.low, kBits), _mm256_srli_epi32(v.high, kBits)};
}
template <int kBits>
FETTLE_INLINE Ints shift_right_signed(Ints v) {
  return {_mm256_srai_epi32(v.low, kBits), _mm256_srai_epi32(v.high, kBits)};
}
template <int kBits>
FETTLE_INLINE Ints shift_left(Ints v) {
  return {_mm256_slli_epi32(v.low, kBits), _mm256_slli_epi32(v.high, kBits)};
}
FETTLE_INLINE Ints add_bytes(Ints a, Ints b) {
  return {_mm256_add_epi8(a.low, b.low), _mm256_add_epi8(a.high, b.high)};
}
FETTLE_INLINE Ints sub_bytes(Ints a, Ints b) {
  return {_mm256_sub_epi8(a.low, b.low), _mm256_sub_epi8(a.high, b.high)};
}
FETTLE_INLINE Ints multiply_words(Ints a, Ints b) {
  return {_mm256_mullo_epi16(a.low, b.low), _mm256_mullo_epi16(a.high, b.high)};
}

FETTLE_INLINE Ints lookup(Ints table, Ints index) {
  return {_mm256_shuffle_epi8(table.low, index.low), _mm256_shuffle_epi8(table.high, index.high)};
}
FETTLE_INLINE Ints table16(const void* table) {
  return both(_mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(table))));
}
FETTLE_INLINE __m256i select_bits(__m256i bits, __m256i mask, __m256i yes, __m256i no) {
  const __m256i none = _mm256_cmpeq_epi8(_mm256_and_si256(bits, mask), _mm256_setzero_si256());
  return _mm256_blendv_epi8(yes, no, none);
}
FETTLE_INLINE Ints select_bits(Ints bits, Ints mask, Ints yes, Ints no) {
  return {select_bits(bits.low, mask.low, yes.low, no.low),
          select_bits(bits.high, mask.high, yes.high, no.high)};
}
FETTLE_INLINE Ints select_equal(Ints a, Ints b, Ints yes, Ints no) {
  return {_mm256_blendv_epi8(no.low, yes.low, _mm256_cmpeq_epi32(a.low, b.low)),
          _mm256_blendv_epi8(no.high, yes.high, _mm256_cmpeq_epi32(a.high, b.high))};
}

FETTLE_INLINE Ints load_bytes(const std::byte* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))};
}
FETTLE_INLINE Floats load_halves(const std::byte* p) {
  const __m128i* q = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
FETTLE_INLINE Floats load_floats(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
FETTLE_INLINE void store_floats(float* p, Floats v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}
FETTLE_INLINE Floats zero_floats() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
FETTLE_INLINE Floats splat_float(const float* p) {
  const __m256 v = _mm256_broadcast_ss(p);
  return {v, v};
}
FETTLE_INLINE Floats to_floats(Ints v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }
FETTLE_INLINE Floats as_floats(Ints v) { return {_mm256_castsi256_ps(v.low), _mm256_castsi256_ps(v.high)}; }
FETTLE_INLINE Ints as_ints(Floats v) { return {_mm256_castps_si256(v.low), _mm256_castps_si256(v.high)}; }
FETTLE_INLINE Floats add(Floats a, Floats b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
FETTLE_INLINE Floats multiply(Floats a, Floats b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
FETTLE_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

FETTLE_INLINE Floats load_part(const float* p, int64_t count) {
  alignas(32) float lanes[16] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load_floats(lanes);
}
FETTLE_INLINE void store_part(float* p, Floats v, int64_t count) {
  alignas(32) float lanes[16];
  store_floats(lanes, v);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// acc + four products a lane of unsigned weights and signed activations. vpmaddubsw adds two products in 16
// bits, which is safe up to weights of 128 (2 * 128 * 127 < 2^15); wider weights go through 16-bit products,
// even and odd bytes apart.
template <bool kWide>
FETTLE_INLINE __m256i dot(__m256i acc, __m256i w, __m256i x) {
  if constexpr (!kWide) {
    const __m256i pairs = _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  } else {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(0xff)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
  }
}
template <bool kWide>
FETTLE_INLINE Ints dot(Ints acc, Ints w, Ints x) {
  return {dot<kWide>(acc.low, w.low, x.low), dot<kWide>(acc.high, w.high, x.high)};
}

}  // namespace
}  // namespace fettle::linear
