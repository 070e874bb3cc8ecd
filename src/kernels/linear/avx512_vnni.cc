// Sixteen rows a register, four products a lane and instruction (vpdpbusd).
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/linear/isa.h"
#include "kernels/linear/numerics.h"
#include "kernels/linear/scratch.h"

#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"
#include "kernels/target_begin.h"

#include "kernels/linear/simd_avx512.h"

namespace fettle::linear {
namespace {

// 2 tiles x 6 tokens: 12 integer and 12 float sums, 2 weights, and room to broadcast.
constexpr int kDirectTokens = 8, kBlockTokens = 6, kPanelTiles = 2, kWideTiles = 4;

template <bool kWide>
FETTLE_INLINE Ints dot(Ints acc, Ints w, Ints x) {
  return _mm512_dpbusd_epi32(acc, w, x);
}

}  // namespace
}  // namespace fettle::linear

#include "kernels/linear/common.h"
// Above first: they are written in its terms.
#include "kernels/linear/decode.h"
#include "kernels/linear/i8c.h"
#include "kernels/linear/int8.h"

namespace fettle::linear {

template <Scheme kScheme, Activation kActivation>
void avx512_vnni(const LinearArgs& args) {
  if constexpr (kActivation == Activation::kQ8T)
    run_i8c(args);
  else
    run_q8g32<Decoder<kScheme>>(args);
}

#define FETTLE_AVX512_VNNI(scheme, activation, name) \
  template void avx512_vnni<Scheme::scheme, Activation::activation>(const LinearArgs& args);
#include "kernels/linear/kernels.inc"

}  // namespace fettle::linear

#include "kernels/target_end.h"
#endif
