// AVX2: sixteen rows in two registers, of which there are only sixteen; hence the small blocks.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/linear/isa.h"
#include "kernels/linear/numerics.h"
#include "kernels/linear/scratch.h"

#define FETTLE_TARGET "avx2,fma,f16c"
#include "kernels/target_begin.h"

#include "kernels/linear/simd_avx2.h"

namespace fettle::linear {
namespace {

constexpr int kDirectTokens = 2, kBlockTokens = 2, kPanelTiles = 1, kWideTiles = 2, kQuadTokens = 2;

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
void avx2(const LinearArgs& args) {
  if constexpr (kActivation == Activation::kQ8T)
    run_i8c(args);
  else if constexpr (kActivation == Activation::kQ8G32)
    run_q8g32<Decoder<kScheme>>(args);
  else if constexpr (kScheme == Scheme::kF8B128 || kScheme == Scheme::kMXFP4)
    run_block_pair<kScheme, kActivation>(args);
  else
    run_float_pair<kScheme, kActivation>(args);
}

#define FETTLE_AVX2(scheme, activation, name) \
  template void avx2<Scheme::scheme, Activation::activation>(const LinearArgs& args);
#include "kernels/linear/kernels.inc"

}  // namespace fettle::linear

#include "kernels/target_end.h"
#endif
