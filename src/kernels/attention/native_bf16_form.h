// The bf16 cache with vdpbf16ps.
#pragma once

namespace fettle {
namespace {

struct Bf16Form {
  static constexpr int kPerWord = 2, kRowFloats = 1, kVectors = 4;
  struct Words {
    __m512i bits;
  };
  static F32x16 dot_bits(F32x16 sum, __m512i words, __m512i x) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)words, (__m512bh)x)};
  }

  static Words load(const float* p) { return {_mm512_loadu_si512(p)}; }
  static F32x16 dot(F32x16 sum, Words words, const float* x) {
    return dot_bits(sum, words.bits, _mm512_castps_si512(_mm512_set1_ps(*x)));
  }
  static Words first_only(Words words) { return {_mm512_and_si512(words.bits, _mm512_set1_epi32(0xffff))}; }
  static F32x16 put(F32x16 sum, F32x16 a, F32x16 b, float* x) {
    const __m512i words = (__m512i)_mm512_cvtne2ps_pbh(b.v, a.v);
    _mm512_storeu_si512(x, words);
    return dot_bits(sum, words, _mm512_set1_epi32(0x3f803f80));  // two ones
  }
};

}  // namespace
}  // namespace fettle
