// AVX-512 without VNNI, and every float pair but bf16 x bf16: sixteen rows a register.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/linear/isa.h"
#include "kernels/linear/numerics.h"
#include "kernels/linear/scratch.h"

#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"
#include "kernels/target_begin.h"

#include "kernels/linear/simd_avx512.h"

namespace fettle::linear {
namespace {

constexpr int kDirectTokens = 4, kBlockTokens = 6, kPanelTiles = 2, kWideTiles = 4, kQuadTokens = 4;

// As simd_avx2.h does it.
template <bool kWide>
FETTLE_INLINE Ints dot(Ints acc, Ints w, Ints x) {
  if constexpr (!kWide) {
    const Ints pairs = _mm512_maddubs_epi16(w, x);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  } else {
    const Ints even = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(0xff)),
                                        _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
    const Ints odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(x, 8));
    return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
  }
}

}  // namespace
}  // namespace fettle::linear

#include "kernels/linear/common.h"
// Above first: they are written in its terms.
#include "kernels/linear/small_floats.h"
// Above first.
#include "kernels/linear/blocks.h"
#include "kernels/linear/decode.h"
#include "kernels/linear/floats.h"
#include "kernels/linear/i8c.h"
#include "kernels/linear/int8.h"

namespace fettle::linear {

template <Scheme kScheme, Activation kActivation>
void avx512(const LinearArgs& args) {
  if constexpr (kActivation == Activation::kQ8T)
    run_i8c(args);
  else if constexpr (kActivation == Activation::kQ8G32)
    run_q8g32<Decoder<kScheme>>(args);
  else if constexpr (kScheme == Scheme::kF8B128 || kScheme == Scheme::kMXFP4)
    run_block_pair<kScheme, kActivation>(args);
  else
    run_float_pair<kScheme, kActivation>(args);
}

#define FETTLE_AVX512(scheme, activation, name) \
  template void avx512<Scheme::scheme, Activation::activation>(const LinearArgs& args);
#include "kernels/linear/kernels.inc"

}  // namespace fettle::linear

#include "kernels/target_end.h"
#endif
