#include "kernels/linear/quantise.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/linear/linear.h"
#include "tensor/float_groups.h"
#include "tensor/numbers.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fettle {
namespace {

constexpr int64_t kGroup = 32;

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

Q8View view_of(std::byte* buffer, int64_t t, int64_t k_padded, int64_t groups) {
  std::byte* scales = buffer + round_up(t * k_padded, 64);
  std::byte* sums = scales + round_up(t * groups * 4, 64);
  return {reinterpret_cast<int8_t*>(buffer), reinterpret_cast<float*>(scales),
          reinterpret_cast<int32_t*>(sums), k_padded, groups};
}

// What a run of numbers is divided by. A maximum so small that its inverse overflows counts as zero.
struct Scale {
  float scale, inverse;
};
inline Scale scale_of(float maximum) {
  const float inverse = 127.0f / maximum;
  if (!(maximum > 0.0f) || std::isinf(inverse)) return {0.0f, 0.0f};
  return {maximum / 127.0f, inverse};
}

// f32_to_e4m3(x / scale) without a branch, so that loops over it become vectors. Adding and taking away
// 1.5 * 2^23 of a number's steps rounds it to whole ones; steps are 1/8 of its binade, which ends at 2^-6.
inline uint8_t e4m3_quotient(float x, float scale) {
  const uint32_t bits = std::bit_cast<uint32_t>(x / scale), magnitude_bits = bits & 0x7fffffffu;
  const uint32_t clamped = magnitude_bits < 0x43e00000u ? magnitude_bits : 0x43e00000u;  // 448
  const uint32_t binade = clamped & 0x7f800000u, steps = binade > 0x3c800000u ? binade : 0x3c800000u;
  const float rounder = std::bit_cast<float>(steps + (20u << 23)) * 1.5f;
  const float rounded = (std::bit_cast<float>(clamped) + rounder) - rounder;
  const uint32_t normal = (std::bit_cast<uint32_t>(rounded) >> 20) - (120u << 3);
  const uint32_t subnormal = static_cast<uint32_t>(static_cast<int32_t>(rounded * 512.0f));
  const uint32_t code = (rounded < 0x1p-6f ? subnormal : normal) | (bits >> 24 & 0x80u);
  return static_cast<uint8_t>(magnitude_bits > 0x7f800000u ? 0x7fu : code);
}

void f32_row(const float* x, int64_t k, std::byte* buffer, int64_t /*t*/, int64_t r) {
  std::memcpy(buffer + r * k * static_cast<int64_t>(sizeof(float)), x,
              static_cast<size_t>(k) * sizeof(float));
}

// The steps on x[count]. Comparisons are written so that a NaN loses, as vmaxps does.
namespace scalar {
struct Steps {
  static float maximum(const float* x, int64_t count) {
    float maximum = 0.0f;
    for (int64_t i = 0; i < count; ++i) {
      const float magnitude = std::fabs(x[i]);
      maximum = magnitude > maximum ? magnitude : maximum;
    }
    return maximum;
  }
  static int32_t round(const float* x, int64_t count, float inverse, int8_t* codes) {
    int32_t sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float scaled = x[i] * inverse;
      const float low = scaled > -127.0f ? scaled : -127.0f;
      const float clamped = low < 127.0f ? low : 127.0f;
      codes[i] = static_cast<int8_t>(std::nearbyint(clamped));
      sum += codes[i];
    }
    return sum;
  }
  static void to_bf16(const float* x, int64_t count, uint16_t* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = f32_to_bf16(x[i]);
  }
};
#include "kernels/linear/quantise_body.h"
}  // namespace scalar

#if defined(__x86_64__)

#define FETTLE_TARGET "avx2,fma"
#include "kernels/target_begin.h"

// Eight lanes at a time; what is left of a run goes the scalar way.
namespace avx2 {
struct Steps {
  static float maximum(const float* x, int64_t count) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 lanes = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
      lanes = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), magnitude), lanes);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    const float most = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
    const float rest = scalar::Steps::maximum(x + i, count - i);
    return rest > most ? rest : most;
  }
  static int32_t round(const float* x, int64_t count, float inverse, int8_t* codes) {
    const __m256 low = _mm256_set1_ps(-127.0f), high = _mm256_set1_ps(127.0f),
                 factor = _mm256_set1_ps(inverse);
    __m256i sums = _mm256_setzero_si256();
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
      const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), factor);
      const __m256i whole = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, low), high));
      sums = _mm256_add_epi32(sums, whole);
      const __m128i words =
          _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + i), _mm_packs_epi16(words, words));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four) + scalar::Steps::round(x + i, count - i, inverse, codes + i);
  }
  static void to_bf16(const float* x, int64_t count, uint16_t* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = f32_to_bf16(x[i]);  // the compiler's vectors serve
  }
};
#include "kernels/linear/quantise_body.h"
}  // namespace avx2

#include "kernels/target_end.h"

#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"
#include "kernels/target_begin.h"

// Sixteen lanes at a time, the last ones under a mask.
namespace avx512 {
struct Steps {
  static __mmask16 lanes(int64_t left) {
    return static_cast<__mmask16>(left >= 16 ? 0xffffu : (1u << left) - 1u);
  }
  static float maximum(const float* x, int64_t count) {
    __m512 most = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 16)
      most = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(lanes(count - i), x + i)), most);
    return _mm512_reduce_max_ps(most);
  }
  static int32_t round(const float* x, int64_t count, float inverse, int8_t* codes) {
    const __m512 low = _mm512_set1_ps(-127.0f), high = _mm512_set1_ps(127.0f),
                 factor = _mm512_set1_ps(inverse);
    __m512i sums = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 mask = lanes(count - i);
      const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
      const __m512i whole = _mm512_maskz_cvtps_epi32(mask, _mm512_min_ps(_mm512_max_ps(scaled, low), high));
      sums = _mm512_add_epi32(sums, whole);
      _mm512_mask_cvtepi32_storeu_epi8(codes + i, mask, whole);
    }
    return _mm512_reduce_add_epi32(sums);
  }
  static void to_bf16(const float* x, int64_t count, uint16_t* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = f32_to_bf16(x[i]);
  }
};
#include "kernels/linear/quantise_body.h"
}  // namespace avx512

#include "kernels/target_end.h"

#endif

}  // namespace

Q8View q8g32_view(std::byte* buffer, int64_t t, int64_t k) {
  const int64_t k_padded = round_up(k, 64);
  return view_of(buffer, t, k_padded, k_padded / kGroup);
}

Q8View q8t_view(std::byte* buffer, int64_t t, int64_t k) { return view_of(buffer, t, round_up(k, 64), 1); }

F8View f8g128_view(std::byte* buffer, int64_t t, int64_t k) {
  const int64_t k_padded = round_up(k, 64);
  return {reinterpret_cast<uint8_t*>(buffer), reinterpret_cast<float*>(buffer + round_up(t * k_padded, 64)),
          k_padded, f8_blocks(k)};
}

int64_t q8_bytes(int64_t t, int64_t k, bool per_token) {
  const int64_t k_padded = round_up(k, 64), groups = per_token ? 1 : k_padded / kGroup;
  return round_up(t * k_padded, 64) + 2 * round_up(t * groups * 4, 64);
}

int64_t activation_bytes(Activation a, int64_t t, int64_t k) {
  switch (a) {
    case Activation::kF32:
      return round_up(t * k * 4, 64);
    case Activation::kBF16:
      return t * bf16_row_stride(k) * 2;
    case Activation::kQ8G32:
      return q8_bytes(t, k, false);
    case Activation::kQ8T:
      return q8_bytes(t, k, true);
    case Activation::kF8G128:
    case Activation::kF8G128Ue8m0:
      return round_up(t * round_up(k, 64), 64) + round_up(t * f8_blocks(k) * 4, 64);
  }
  return 0;
}

QuantiseRowFn find_quantise_row(Activation activation, Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return avx512::pick(activation);
  if (isa >= Isa::kAvx2) return avx2::pick(activation);
#endif
  (void)isa;
  return scalar::pick(activation);
}

}  // namespace fettle
