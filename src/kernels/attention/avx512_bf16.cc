// Attention over a bf16 cache with vdpbf16ps: two products a lane, sums in fp32, denormals flushed; in
// prefill 1.8x of avx512.cc. Weights rounded to bf16 pairs instead of fp32 weights on unpacked V: 1.33x
// faster in prefill, equal in decode, and hardly any error beyond that of K and V in bf16 (unit normal data,
// 512 positions, relative rms: K and V 3.8e-4, with q 5.0e-4, with the weights 5.4e-4).
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx512.h"
//
#include "kernels/vec16.h"
//
#include "kernels/attention/body.h"

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

void attend_bf16_avx512_bf16(const AttentionArgs& args) { attend<Bf16Form>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
