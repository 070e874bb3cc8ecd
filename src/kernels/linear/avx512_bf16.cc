// bf16 x bf16 with vdpbf16ps: two products a lane and instruction, subnormals taken as zero, its own
// rounding. So these results agree with ref.cc to rounding only; a row still never depends on its neighbours.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/linear/isa.h"
#include "kernels/linear/numerics.h"
#include "kernels/linear/scratch.h"

#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c"
#include "kernels/target_begin.h"

#include "kernels/linear/simd_avx512.h"

namespace fettle::linear {
namespace {

// 4 tiles x 6 tokens: 24 sums, 4 weights, and room to broadcast.
constexpr int kBlockTokens = 6, kWideTiles = 4;

}  // namespace
}  // namespace fettle::linear

#include "kernels/linear/common.h"
// Above first: they are written in its terms.
#include "kernels/linear/floats.h"

namespace fettle::linear {
namespace {

struct NativeBf16 {
  using X = uint16_t;
  static constexpr int64_t kStep = 2, kWeightBytes = 64;
  using W = Ints;
  FETTLE_INLINE static W load(const std::byte* p) { return load_ints(p); }
  FETTLE_INLINE static Floats multiply_add(Floats acc, W w, const X* x) {
    const Ints pair = splat_from(reinterpret_cast<const int32_t*>(x));
    return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)pair);
  }
};

}  // namespace

template <Scheme kScheme, Activation kActivation>
void avx512_bf16(const LinearArgs& args) {
  if (args.t <= 0 || args.tile_begin >= args.tile_end) return;
  run_floats<NativeBf16>(kScheme, args, bf16_row_stride(args.k));
}

#define FETTLE_AVX512_BF16(scheme, activation, name) \
  template void avx512_bf16<Scheme::scheme, Activation::activation>(const LinearArgs& args);
#include "kernels/linear/kernels.inc"

}  // namespace fettle::linear

#include "kernels/target_end.h"
#endif
