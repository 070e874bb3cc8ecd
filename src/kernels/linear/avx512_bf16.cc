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
constexpr int kBlockTokens = 6, kWideTiles = 4, kQuadTokens = 4;

}  // namespace
}  // namespace fettle::linear

#include "kernels/linear/common.h"
// Above first: they are written in its terms.
#include "kernels/linear/floats.h"
#include "kernels/linear/small_floats.h"
// Above first.
#include "kernels/linear/blocks.h"

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

// Small floats as bf16: a quad is two vectors, of its columns (0, 2) and (1, 3), and x is put in that order.
struct QuadsBf16 {
  using X = uint16_t;
  using W = Ints;
  static constexpr int kVectors = 2, kStep = 2;
  FETTLE_INLINE static void expand(Quad q, W w[kVectors]) {
    w[0] = even_pair(q);
    w[1] = odd_pair(q);
  }
  FETTLE_INLINE static Floats multiply_add(Floats acc, W w, const X* x) {
    return NativeBf16::multiply_add(acc, w, x);
  }
  FETTLE_INLINE static void store(std::byte* p, W w) { store_ints(p, w); }
  FETTLE_INLINE static W load(const std::byte* p) { return load_ints(p); }
};

template <Scheme kScheme, Activation kActivation>
void run_block_pair_bf16(const LinearArgs& args) {
  BlockInput<QuadsBf16> input;
  input.stride = (args.k + 3) / 4 * 4;
  const int64_t stride = input.stride;
  if constexpr (kActivation == Activation::kBF16) {
    const auto* x = reinterpret_cast<const uint16_t*>(args.x);
    run_blocks<kScheme>(args, input, [=, &args](int64_t t, uint16_t* row) {
      const uint16_t* from = x + t * bf16_row_stride(args.k);
      for (int64_t i = 0; i < stride; i += 4) {
        uint64_t quad;
        __builtin_memcpy(&quad, from + i, sizeof quad);
        quad = (quad & 0xffff00000000ffffu) | (quad >> 16 & 0xffff0000u) | (quad & 0xffff0000u) << 16;
        __builtin_memcpy(row + i, &quad, sizeof quad);
      }
    });
  } else {
    const F8View x = f8g128_view(const_cast<std::byte*>(args.x), args.t, args.k);
    input.scales = x.scales;
    input.scale_stride = x.groups;
    input.scale_step = 1;
    run_blocks<kScheme>(args, input, [=](int64_t t, uint16_t* row) {
      const uint8_t* codes = x.codes + t * x.k_padded;
      for (int64_t i = 0; i < stride; i += 4) {
        row[i] = e4m3_as_bf16(codes[i]);
        row[i + 1] = e4m3_as_bf16(codes[i + 2]);
        row[i + 2] = e4m3_as_bf16(codes[i + 1]);
        row[i + 3] = e4m3_as_bf16(codes[i + 3]);
      }
    });
  }
}

}  // namespace

template <Scheme kScheme, Activation kActivation>
void avx512_bf16(const LinearArgs& args) {
  if (args.t <= 0 || args.tile_begin >= args.tile_end) return;
  if constexpr (kScheme == Scheme::kBF16)
    run_floats<NativeBf16>(kScheme, args, bf16_row_stride(args.k));
  else
    run_block_pair_bf16<kScheme, kActivation>(args);
}

#define FETTLE_AVX512_BF16(scheme, activation, name) \
  template void avx512_bf16<Scheme::scheme, Activation::activation>(const LinearArgs& args);
#include "kernels/linear/kernels.inc"

}  // namespace fettle::linear

#include "kernels/target_end.h"
#endif
