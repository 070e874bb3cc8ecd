// The kernels for weights of small floats under block scales, in simd terms (ref.cc: dot_blocks). Each
// element of y is, block after block, a chain of fma over the block's codes, then fma(chain, w_scale *
// x_scale, sum). Two ways through a block of kTiles tiles, with the same operations in the same order:
// - direct, few tokens: a quad is decoded in registers and multiplied at once;
// - panel, many: the block is decoded once into a buffer of L1's size, which all tokens then run over.
// A policy says what is multiplied: X the type of an element of x, kVectors vectors a quad, kStep elements of
// x each. The including file defines kBlockTokens, kWideTiles and kQuadTokens for its register file.
#pragma once

namespace fettle::linear {
namespace {

constexpr int64_t kBlockChunk = 64;  // tokens at a time; bounds the scratch

// Codes as fp32, in the order of k.
struct QuadsF32 {
  using X = float;
  using W = Floats;
  static constexpr int kVectors = 4, kStep = 1;
  FETTLE_INLINE static void expand(Quad q, W w[kVectors]) {
    const Ints even = even_pair(q), odd = odd_pair(q);
    w[0] = as_floats(shift_left<16>(even));
    w[1] = as_floats(shift_left<16>(odd));
    w[2] = as_floats(bit_and(even, splat(0xffff0000)));
    w[3] = as_floats(bit_and(odd, splat(0xffff0000)));
  }
  FETTLE_INLINE static Floats multiply_add(Floats acc, W w, const X* x) {
    return fma(w, splat_float(x), acc);
  }
  FETTLE_INLINE static void store(std::byte* p, W w) { store_ints(p, as_ints(w)); }
  FETTLE_INLINE static W load(const std::byte* p) { return as_floats(load_ints(p)); }
};

template <class P>
struct BlockTokens {
  const typename P::X* x;  // rows of whole quads, zeros beyond k
  int64_t stride;
  const float* scales;  // of token t, columns 128 b..: scales[t * scale_stride + b * scale_step]
  int64_t scale_stride, scale_step;
  int64_t first, count;
};

// What a block of tokens and a block of k meet in: weights at `at`, x, the scales of x and the totals.
template <class P>
struct BlockPlace {
  const std::byte* at;
  int64_t tile_bytes;  // direct only
  int64_t quads;       // in the block
  const typename P::X* x;
  int64_t x_stride;
  const float* x_scale;
  int64_t x_scale_stride;
  const float* w_scale;  // [kTiles][16]
  float* totals;         // [token][kTiles][16]
};

template <class P, int kTiles, int kTokens>
FETTLE_INLINE void add_block(const BlockPlace<P>& p, const Floats* acc) {
  FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) {
    const Floats x_scale = splat_float(p.x_scale + j * p.x_scale_stride);
    FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) {
      float* total = p.totals + (j * kTiles + m) * kTileRows;
      const Floats scale = multiply(load_floats(p.w_scale + m * kTileRows), x_scale);
      store_floats(total, fma(acc[j * kTiles + m], scale, load_floats(total)));
    }
  }
}

template <class S, class P, int kTiles, int kTokens, int kPass = 0>
FETTLE_INLINE void direct_passes(const BlockPlace<P>& p, Floats* acc) {
  const int64_t quads = kPass + 1 < S::kPasses ? S::kPassQuads : p.quads - kPass * S::kPassQuads;
  const typename P::X* x = p.x + kPass * S::kPassQuads * 4;
  for (int64_t q = 0; q < quads; ++q, x += 4) FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) {
      typename P::W w[P::kVectors];
      P::expand(S::template quad<kPass>(p.at + m * p.tile_bytes, q), w);
      FETTLE_UNROLL for (int i = 0; i < P::kVectors; ++i) FETTLE_UNROLL for (int j = 0; j < kTokens; ++j)
          acc[j * kTiles + m] = P::multiply_add(acc[j * kTiles + m], w[i], x + j * p.x_stride + i * P::kStep);
    }
  if constexpr (kPass + 1 < S::kPasses) direct_passes<S, P, kTiles, kTokens, kPass + 1>(p, acc);
}

template <class S, class P, int kTiles, int kTokens>
__attribute__((noinline)) void direct_block(const BlockPlace<P>& p) {
  Floats acc[kTokens * kTiles];
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) acc[i] = zero_floats();
  direct_passes<S, P, kTiles, kTokens>(p, acc);
  add_block<P, kTiles, kTokens>(p, acc);
}

template <class S, class P, int kTiles, int kTokens = kQuadTokens>
void direct_quads(int64_t tokens, const BlockPlace<P>& p) {
  if (tokens == kTokens) return direct_block<S, P, kTiles, kTokens>(p);
  if constexpr (kTokens > 1) direct_quads<S, P, kTiles, kTokens - 1>(tokens, p);
}

template <class S, class P, int kTiles, int kPass = 0>
FETTLE_INLINE void expand_passes(const BlockPlace<P>& p, std::byte* panel) {
  const int64_t quads = kPass + 1 < S::kPasses ? S::kPassQuads : p.quads - kPass * S::kPassQuads;
  for (int64_t q = 0; q < quads; ++q, panel += 64 * kTiles * P::kVectors)
    FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) {
      typename P::W w[P::kVectors];
      P::expand(S::template quad<kPass>(p.at + m * p.tile_bytes, q), w);
      FETTLE_UNROLL for (int i = 0; i < P::kVectors; ++i) P::store(panel + 64 * (i * kTiles + m), w[i]);
    }
  if constexpr (kPass + 1 < S::kPasses) expand_passes<S, P, kTiles, kPass + 1>(p, panel);
}

template <class S, class P, int kTiles>
__attribute__((noinline)) void expand_block(const BlockPlace<P>& p, std::byte* panel) {
  expand_passes<S, P, kTiles>(p, panel);
}

template <class P, int kTiles, int kTokens>
__attribute__((noinline)) void panel_quads(const BlockPlace<P>& p) {
  Floats acc[kTokens * kTiles];
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) acc[i] = zero_floats();
  const std::byte* panel = p.at;
  const typename P::X* x = p.x;
  for (int64_t s = 0; s < p.quads * P::kVectors; ++s, panel += 64 * kTiles, x += P::kStep) {
    typename P::W w[kTiles];
    FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) w[m] = P::load(panel + 64 * m);
    FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) FETTLE_UNROLL for (int m = 0; m < kTiles; ++m)
        acc[j * kTiles + m] = P::multiply_add(acc[j * kTiles + m], w[m], x + j * p.x_stride);
  }
  add_block<P, kTiles, kTokens>(p, acc);
}

template <class P, int kTiles, int kTokens = kBlockTokens>
void panel_quads_dispatch(int64_t tokens, const BlockPlace<P>& p) {
  if (tokens == kTokens) return panel_quads<P, kTiles, kTokens>(p);
  if constexpr (kTokens > 1) panel_quads_dispatch<P, kTiles, kTokens - 1>(tokens, p);
}

template <class P>
constexpr int64_t panel_bytes(int64_t tiles) {
  return 32 * P::kVectors * 64 * tiles;  // 128 columns
}

// All tokens over block b of kTiles tiles. `place` has the weights and their scales.
template <class S, class P, int kTiles>
void run_block(const LinearArgs& args, int64_t tile, int64_t b, const BlockTokens<P>& tokens,
               BlockPlace<P> place, std::byte* panel, float* totals) {
  const int64_t count = tokens.count, k = b * S::kColumns;
  const bool direct = count <= kQuadTokens, last = k + S::kColumns >= args.k;
  const int64_t blocks = direct ? 1 : (count + kBlockTokens - 1) / kBlockTokens;
  if (!direct) {
    expand_block<S, P, kTiles>(place, panel);
    place.at = panel;
  }
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t t = block_begin(count, i, blocks), here = block_begin(count, i + 1, blocks) - t;
    if (last) prefetch_output(args, tile, kTiles, tokens.first + t, here);
    place.x = tokens.x + t * tokens.stride + k;
    place.x_scale = tokens.scales + t * tokens.scale_stride + k / kF8Block * tokens.scale_step;
    place.totals = totals + t * kTiles * kTileRows;
    if (direct)
      direct_quads<S, P, kTiles>(here, place);
    else
      panel_quads_dispatch<P, kTiles>(here, place);
  }
}

template <class S, class P, int kTiles>
void block_tiles(const LinearArgs& args, Scheme scheme, int64_t tile, const BlockTokens<P>& tokens,
                 float* totals, std::byte* panel) {
  const int64_t tile_bytes = packed_tile_bytes(scheme, args.k);
  const std::byte* weight = args.weight + tile * tile_bytes;
  alignas(64) float w_scale[kTiles * kTileRows];
  __builtin_memset(totals, 0, static_cast<size_t>(tokens.count * kTiles * kTileRows) * sizeof(float));
  for (int64_t b = 0; b * S::kColumns < args.k; ++b) {
    const int64_t left = args.k - b * S::kColumns, columns = left < S::kColumns ? left : S::kColumns;
    for (int m = 0; m < kTiles; ++m)
      store_floats(w_scale + m * kTileRows, S::scale(weight + m * tile_bytes, b, args.k));
    run_block<S, P, kTiles>(args, tile, b, tokens,
                            {S::block(weight, b), tile_bytes, (columns + 3) / 4, nullptr, tokens.stride,
                             nullptr, tokens.scale_stride, w_scale, nullptr},
                            panel, totals);
  }
  for (int64_t t = 0; t < tokens.count; ++t)
    for (int m = 0; m < kTiles; ++m)
      store_output(args, tile + m, tokens.first + t, load_floats(totals + (t * kTiles + m) * kTileRows));
}

// What the rows of x are read from, and how: fill(t, row) writes token t's padded row.
template <class P>
struct BlockInput {
  const typename P::X* in_place = nullptr;  // or copied:
  int64_t stride = 0;
  const float* scales = nullptr;
  int64_t scale_stride = 0, scale_step = 0;
};

template <Scheme kScheme, class P, class Fill>
void run_blocks(const LinearArgs& args, const BlockInput<P>& input, Fill fill) {
  using S = Blocks<kScheme>;
  static constexpr float kOne = 1.0f;
  const int64_t most = args.t < kBlockChunk ? args.t : kBlockChunk, stride = input.stride;
  const int64_t copied = input.in_place ? 0 : most * stride;
  Carver carver(thread_scratch(Carver::bytes_of<float>(most * kWideTiles * kTileRows) +
                               Carver::bytes_of<std::byte>(panel_bytes<P>(kWideTiles)) +
                               Carver::bytes_of<typename P::X>(copied)));
  float* totals = carver.take<float>(most * kWideTiles * kTileRows);
  std::byte* panel = carver.take<std::byte>(panel_bytes<P>(kWideTiles));
  auto* rows = carver.take<typename P::X>(copied);
  for (int64_t first = 0; first < args.t; first += kBlockChunk) {
    const int64_t count = args.t - first < kBlockChunk ? args.t - first : kBlockChunk;
    for (int64_t t = 0; !input.in_place && t < count; ++t) fill(first + t, rows + t * stride);
    const BlockTokens<P> tokens{input.in_place ? input.in_place + first * stride : rows,
                                stride,
                                input.scales ? input.scales + first * input.scale_stride : &kOne,
                                input.scale_stride,
                                input.scale_step,
                                first,
                                count};
    int64_t tile = args.tile_begin;
    for (; tile + kWideTiles <= args.tile_end; tile += kWideTiles)
      block_tiles<S, P, kWideTiles>(args, kScheme, tile, tokens, totals, panel);
    for (; tile < args.tile_end; ++tile) block_tiles<S, P, 1>(args, kScheme, tile, tokens, totals, panel);
  }
}

// The pairs of every instruction set without bf16 arithmetic: x as fp32, whatever it is held as.
template <Scheme kScheme, Activation kActivation>
void run_block_pair(const LinearArgs& args) {
  if (args.t <= 0 || args.tile_begin >= args.tile_end) return;
  const int64_t k = args.k;
  BlockInput<QuadsF32> input;
  input.stride = (k + 3) / 4 * 4;
  const auto pad = [k, &input](float* row) {
    for (int64_t i = k; i < input.stride; ++i) row[i] = 0.0f;
  };
  if constexpr (kActivation == Activation::kF32) {
    const auto* x = reinterpret_cast<const float*>(args.x);
    if (k % 4 == 0) input.in_place = x;
    run_blocks<kScheme>(args, input, [&](int64_t t, float* row) {
      __builtin_memcpy(row, x + t * k, static_cast<size_t>(k) * sizeof(float));
      pad(row);
    });
  } else if constexpr (kActivation == Activation::kBF16) {
    const auto* x = reinterpret_cast<const uint16_t*>(args.x);
    run_blocks<kScheme>(args, input, [&](int64_t t, float* row) {
      const uint16_t* from = x + t * bf16_row_stride(k);
      for (int64_t i = 0; i < input.stride; ++i)
        row[i] = __builtin_bit_cast(float, static_cast<uint32_t>(from[i]) << 16);
    });
  } else {
    const F8View x = f8g128_view(const_cast<std::byte*>(args.x), args.t, k);
    input.scales = x.scales;
    input.scale_stride = x.groups;
    input.scale_step = 1;
    run_blocks<kScheme>(args, input, [&](int64_t t, float* row) {
      const uint8_t* codes = x.codes + t * x.k_padded;
      for (int64_t i = 0; i < input.stride; ++i)
        row[i] = __builtin_bit_cast(float, static_cast<uint32_t>(e4m3_as_bf16(codes[i])) << 16);
    });
  }
}

}  // namespace
}  // namespace fettle::linear
