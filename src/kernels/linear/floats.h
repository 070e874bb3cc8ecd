// The kernels for float activations, in simd terms. Each element of y is a chain of fma over each block of
// kFloatBlock k, the blocks added in order (ref.cc). Blocks of kBlockTokens tokens run over kWideTiles tiles
// for one block of k, whose weights stay in L1 or L2 meanwhile; the totals wait in memory. A policy says how
// one step along k is loaded and multiplied: kStep k, kWeightBytes of a tile, X the type of an element of x.
#pragma once

namespace fettle::linear {
namespace {

constexpr int64_t kFloatTokens = 64;  // at a time; bounds the scratch

struct F32Weights {
  using X = float;
  static constexpr int64_t kStep = 1, kWeightBytes = 64;
  using W = Floats;
  FETTLE_INLINE static W load(const std::byte* p) { return load_floats(reinterpret_cast<const float*>(p)); }
  FETTLE_INLINE static Floats multiply_add(Floats acc, W w, const X* x) {
    return fma(w, splat_float(x), acc);
  }
};

struct F16Weights : F32Weights {
  static constexpr int64_t kWeightBytes = 32;
  FETTLE_INLINE static W load(const std::byte* p) { return load_halves(p); }
};

// Two k a step, the first in the low half of a lane.
struct Bf16Weights {
  using X = float;
  static constexpr int64_t kStep = 2, kWeightBytes = 64;
  struct W {
    Floats first, second;
  };
  FETTLE_INLINE static W load(const std::byte* p) {
    const Ints pair = load_ints(p);
    return {as_floats(shift_left<16>(pair)), as_floats(bit_and(pair, splat(0xffff0000)))};
  }
  FETTLE_INLINE static Floats multiply_add(Floats acc, W w, const X* x) {
    return fma(w.second, splat_float(x + 1), fma(w.first, splat_float(x), acc));
  }
};

// totals[j * kTiles + m] += one block of k.
template <class P, int kTiles, int kTokens>
__attribute__((noinline)) void float_block(const std::byte* weight, int64_t tile_bytes, int64_t steps,
                                           const typename P::X* x, int64_t x_stride, float* totals) {
  Floats acc[kTokens * kTiles];
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) acc[i] = zero_floats();
  for (int64_t s = 0; s < steps; ++s, weight += P::kWeightBytes, x += P::kStep) {
    typename P::W w[kTiles];
    FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) w[m] = P::load(weight + m * tile_bytes);
    FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) FETTLE_UNROLL for (int m = 0; m < kTiles; ++m)
        acc[j * kTiles + m] = P::multiply_add(acc[j * kTiles + m], w[m], x + j * x_stride);
  }
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i)
      store_floats(totals + 16 * i, add(load_floats(totals + 16 * i), acc[i]));
}

template <class P, int kTiles, int kTokens = kBlockTokens>
void float_dispatch(int64_t tokens, const std::byte* weight, int64_t tile_bytes, int64_t steps,
                    const typename P::X* x, int64_t x_stride, float* totals) {
  if (tokens == kTokens)
    return float_block<P, kTiles, kTokens>(weight, tile_bytes, steps, x, x_stride, totals);
  if constexpr (kTokens > 1)
    float_dispatch<P, kTiles, kTokens - 1>(tokens, weight, tile_bytes, steps, x, x_stride, totals);
}

// Rows x[count] of tokens first..first + count; each holds whole steps.
template <class P>
struct FloatTokens {
  const typename P::X* x;
  int64_t stride, first, count;
};

template <class P, int kTiles>
void float_tiles(const LinearArgs& args, int64_t tile, int64_t tile_bytes, const FloatTokens<P>& tokens,
                 float* totals) {
  const std::byte* weight = args.weight + tile * tile_bytes;
  const int64_t count = tokens.count, blocks = (count + kBlockTokens - 1) / kBlockTokens;
  __builtin_memset(totals, 0, static_cast<size_t>(count * kTiles * kTileRows) * sizeof(float));
  for (int64_t k = 0; k < args.k; k += kFloatBlock) {
    const int64_t here = args.k - k < kFloatBlock ? args.k - k : kFloatBlock;
    const int64_t steps = (here + P::kStep - 1) / P::kStep;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t t = block_begin(count, b, blocks), end = block_begin(count, b + 1, blocks);
      if (k + here == args.k) prefetch_output(args, tile, kTiles, tokens.first + t, end - t);
      float_dispatch<P, kTiles>(end - t, weight + k / P::kStep * P::kWeightBytes, tile_bytes, steps,
                                tokens.x + t * tokens.stride + k, tokens.stride,
                                totals + t * kTiles * kTileRows);
    }
  }
  for (int64_t t = 0; t < count; ++t)
    for (int m = 0; m < kTiles; ++m)
      store_output(args, tile + m, tokens.first + t, load_floats(totals + (t * kTiles + m) * kTileRows));
}

template <class P>
void float_all_tiles(const LinearArgs& args, int64_t tile_bytes, const FloatTokens<P>& tokens,
                     float* totals) {
  int64_t tile = args.tile_begin;
  for (; tile + kWideTiles <= args.tile_end; tile += kWideTiles)
    float_tiles<P, kWideTiles>(args, tile, tile_bytes, tokens, totals);
  for (; tile < args.tile_end; ++tile) float_tiles<P, 1>(args, tile, tile_bytes, tokens, totals);
}

// x in place: its rows are whole steps already.
template <class P>
void run_floats(Scheme scheme, const LinearArgs& args, int64_t x_stride) {
  const int64_t tile_bytes = packed_tile_bytes(scheme, args.k);
  const int64_t most = args.t < kFloatTokens ? args.t : kFloatTokens;
  float* totals = reinterpret_cast<float*>(thread_scratch(most * kWideTiles * kTileRows * 4));
  const auto* x = reinterpret_cast<const typename P::X*>(args.x);
  for (int64_t t = 0; t < args.t; t += kFloatTokens) {
    const int64_t count = args.t - t < kFloatTokens ? args.t - t : kFloatTokens;
    float_all_tiles<P>(args, tile_bytes, {x + t * x_stride, x_stride, t, count}, totals);
  }
}

// x copied as fp32 rows of even length, `read` giving element i of token t.
template <class P, class Read>
void run_floats_copied(Scheme scheme, const LinearArgs& args, Read read) {
  const int64_t tile_bytes = packed_tile_bytes(scheme, args.k), stride = (args.k + 1) / 2 * 2;
  const int64_t most = args.t < kFloatTokens ? args.t : kFloatTokens;
  Carver carver(thread_scratch(Carver::bytes_of<float>(most * kWideTiles * kTileRows) +
                               Carver::bytes_of<float>(most * stride)));
  float* totals = carver.take<float>(most * kWideTiles * kTileRows);
  float* x = carver.take<float>(most * stride);
  for (int64_t t = 0; t < args.t; t += kFloatTokens) {
    const int64_t count = args.t - t < kFloatTokens ? args.t - t : kFloatTokens;
    for (int64_t j = 0; j < count; ++j) {
      x[j * stride + stride - 1] = 0.0f;
      for (int64_t i = 0; i < args.k; ++i) x[j * stride + i] = read(t + j, i);
    }
    float_all_tiles<P>(args, tile_bytes, {x, stride, t, count}, totals);
  }
}

struct ReadF32 {
  const float* x;
  int64_t stride;
  FETTLE_INLINE float operator()(int64_t t, int64_t i) const { return x[t * stride + i]; }
};
struct ReadBf16 {
  const uint16_t* x;
  int64_t stride;
  FETTLE_INLINE float operator()(int64_t t, int64_t i) const {
    return __builtin_bit_cast(float, static_cast<uint32_t>(x[t * stride + i]) << 16);
  }
};

// The float pairs of every instruction set without bf16 arithmetic.
template <Scheme kScheme, Activation kActivation>
void run_float_pair(const LinearArgs& args) {
  if (args.t <= 0 || args.tile_begin >= args.tile_end) return;
  if constexpr (kActivation == Activation::kBF16) {
    const ReadBf16 read{reinterpret_cast<const uint16_t*>(args.x), bf16_row_stride(args.k)};
    run_floats_copied<Bf16Weights>(kScheme, args, read);
  } else if constexpr (kScheme == Scheme::kBF16) {
    if (args.k % 2 == 0) return run_floats<Bf16Weights>(kScheme, args, args.k);
    run_floats_copied<Bf16Weights>(kScheme, args, ReadF32{reinterpret_cast<const float*>(args.x), args.k});
  } else if constexpr (kScheme == Scheme::kF16) {
    run_floats<F16Weights>(kScheme, args, args.k);
  } else {
    run_floats<F32Weights>(kScheme, args, args.k);
  }
}

}  // namespace
}  // namespace fettle::linear
