#include "device/cpu/peak.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fettle {

namespace {

// Makes the compiler believe that the value is used and may have changed.
template <typename T>
inline void keep(T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

constexpr int kChains = 16;  // independent accumulators: enough to cover latency x throughput

}  // namespace

#if defined(__x86_64__)

// The accumulators stay in registers only if the loop over them is unrolled.
#define FETTLE_UNROLL _Pragma("GCC unroll 16")

#define FETTLE_TARGET "avx2,fma"
#include "kernels/target_begin.h"
namespace {
int64_t f32_avx2(int64_t rounds) {
  constexpr int kYmmChains = 12;
  __m256 acc[kYmmChains];
  const __m256 a = _mm256_set1_ps(0.5f);
  for (auto& x : acc) x = _mm256_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) FETTLE_UNROLL for (auto& x : acc) x = _mm256_fmadd_ps(x, a, a);
  for (auto& x : acc) keep(x);
  return rounds * kYmmChains * 8 * 2;
}
int64_t int8_avx2(int64_t rounds) {
  constexpr int kYmmChains = 8;
  __m256i acc[kYmmChains];
  __m256i a = _mm256_set1_epi8(1);
  keep(a);
  const __m256i ones = _mm256_set1_epi16(1);
  for (auto& x : acc) x = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; ++i) {
    FETTLE_UNROLL for (auto& x : acc) x =
        _mm256_add_epi32(x, _mm256_madd_epi16(_mm256_maddubs_epi16(a, x), ones));
  }
  for (auto& x : acc) keep(x);
  return rounds * kYmmChains * 32 * 2;
}
}  // namespace
#include "kernels/target_end.h"

#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#include "kernels/target_begin.h"
namespace {
int64_t f32_avx512(int64_t rounds) {
  __m512 acc[kChains];
  const __m512 a = _mm512_set1_ps(0.5f);
  for (auto& x : acc) x = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) FETTLE_UNROLL for (auto& x : acc) x = _mm512_fmadd_ps(x, a, a);
  for (auto& x : acc) keep(x);
  return rounds * kChains * 16 * 2;
}
int64_t int8_vnni(int64_t rounds) {
  __m512i acc[kChains];
  __m512i a = _mm512_set1_epi8(1);
  keep(a);
  for (auto& x : acc) x = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) FETTLE_UNROLL for (auto& x : acc) x = _mm512_dpbusd_epi32(x, a, a);
  for (auto& x : acc) keep(x);
  return rounds * kChains * 64 * 2;
}
}  // namespace
#include "kernels/target_end.h"

#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"
#include "kernels/target_begin.h"
namespace {
int64_t bf16_avx512(int64_t rounds) {
  __m512 acc[kChains];
  __m512i bits = _mm512_set1_epi16(0x3f80);
  keep(bits);
  const __m512bh a = (__m512bh)bits;
  for (auto& x : acc) x = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) FETTLE_UNROLL for (auto& x : acc) x = _mm512_dpbf16_ps(x, a, a);
  for (auto& x : acc) keep(x);
  return rounds * kChains * 32 * 2;
}
}  // namespace
#include "kernels/target_end.h"

PeakLoops peak_loops(Isa isa) {
  PeakLoops loops;
  if (isa >= Isa::kAvx2) loops.f32 = f32_avx2, loops.int8 = int8_avx2;
  if (isa >= Isa::kAvx512) loops.f32 = f32_avx512;
  if (isa >= Isa::kAvx512Vnni) loops.int8 = int8_vnni;
  if (isa >= Isa::kAvx512Bf16) loops.bf16 = bf16_avx512;
  return loops;
}

#else

PeakLoops peak_loops(Isa) { return {}; }

#endif

}  // namespace fettle
