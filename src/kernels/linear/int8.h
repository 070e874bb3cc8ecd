// The kernels for int8 activations, in simd terms. Two ways through a tile, with the same operations in the
// same order for each (row, token), hence the same bits:
// - direct, few tokens: each group is decoded in registers and multiplied at once;
// - panels, many: kPanelGroups groups of kPanelTiles tiles are decoded once into a buffer of L1's size, which
//   blocks of kBlockTokens tokens then run over; between panels the sums wait in memory.
// Tokens are regathered so that the tokens of one group lie side by side: one pointer serves a whole block.
// The including file defines kDirectTokens, kBlockTokens, kPanelTiles for its register file.
#pragma once

namespace fettle::linear {
namespace {

// How far ahead the direct path asks for weights: up to 2.4x for one token, most on the layouts of
// super-blocks.
constexpr int64_t kPrefetchBytes = 8 << 10;

// So many blocks of kDirectTokens go the direct way, each decoding the tile anew: weights that come from
// memory are waited for less than while a panel is filled. 16 tokens 1.0x to 1.7x by scheme, 32 tokens
// to 1.35x (q3_k, the slowest to decode, loses a tenth).
constexpr int64_t kDirectBlocks = 4;

// One group of one token.
struct Token {
  int8_t code[32];
  float scale;
  // Per half: -zero * sum of its codes; for schemes with minimum terms, the bits of scale * sum of its codes.
  int32_t term[2];
  int32_t unused;
};

FETTLE_INLINE int32_t sum_of_16(const int8_t* codes) {
  const __m128i biased =
      _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)), _mm_set1_epi8(-128));
  const __m128i sums = _mm_sad_epu8(biased, _mm_setzero_si128());
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
}

template <class F>
void gather(const Q8View& x, int64_t groups, const Gathered<Token>& out) {
  for (int64_t t = 0; t < out.count; ++t) {
    const int8_t* codes = x.codes + (out.first + t) * x.k_padded;
    const float* scales = x.scales + (out.first + t) * x.groups;
    const int32_t* sums = x.sums + (out.first + t) * x.groups;
    for (int64_t g = 0; g < groups; ++g) {
      Token& token = out.at[g * out.stride + t];
      __builtin_memcpy(token.code, codes + g * 32, 32);
      token.scale = scales[g];
      int32_t parts[2] = {sums[g], 0};
      if constexpr (F::kHalves == 2 || F::kMins == 2) {
        parts[0] = sum_of_16(token.code);
        parts[1] = sum_of_16(token.code + 16);
      }
      for (int h = 0; h < 2; ++h)
        token.term[h] = F::kMins > 0 ? __builtin_bit_cast(int32_t, scales[g] * static_cast<float>(parts[h]))
                                     : -F::kZero * parts[h];
    }
  }
}

// Where the inner loop finds groups: decoded on the way past ...
template <class D>
struct DirectSource {
  const std::byte* tile;
  int64_t group_bytes;
  Decoded group;

  FETTLE_INLINE void start(int64_t g) {
    const std::byte* ahead = tile + g * group_bytes + kPrefetchBytes;
    for (int64_t i = 0; i < group_bytes; i += 64)
      _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T0);
    D::decode(tile, g, group);
  }
  FETTLE_INLINE Ints code(int, int q) const { return group.code[q]; }
  FETTLE_INLINE Floats scale(int, int h) const { return group.scale[h]; }
  FETTLE_INLINE Floats min(int, int h) const { return group.min[h]; }
};

// ... or in a panel of kTiles tiles: per group 8 x kTiles vectors of codes, then scales, then minima.
template <class F, int kTiles>
struct PanelSource {
  static constexpr int64_t kGroupBytes = 64 * kTiles * (8 + F::kHalves + F::kMins);
  const std::byte* panel;
  const std::byte* group;

  FETTLE_INLINE void start(int64_t g) { group = panel + g * kGroupBytes; }
  FETTLE_INLINE Ints code(int m, int q) const { return load_ints(group + 64 * (q * kTiles + m)); }
  FETTLE_INLINE Floats scale(int m, int h) const { return at((8 + h) * kTiles + m); }
  FETTLE_INLINE Floats min(int m, int h) const { return at((8 + F::kHalves + h) * kTiles + m); }
  FETTLE_INLINE Floats at(int vector) const { return as_floats(load_ints(group + 64 * vector)); }
};

struct PackedTiles {
  const std::byte* begin;
  int64_t tile_bytes, group_bytes;
};

template <class D, int kTiles>
__attribute__((noinline)) void expand(const PackedTiles& tiles, int64_t g_begin, int64_t g_end,
                                      std::byte* panel) {
  Decoded group;
  for (int64_t g = g_begin; g < g_end; ++g, panel += PanelSource<D, kTiles>::kGroupBytes)
    for (int m = 0; m < kTiles; ++m) {
      // The next panel, of these tiles or of those that follow: it arrives in L2 while this one is
      // multiplied.
      const std::byte* tile = tiles.begin + m * tiles.tile_bytes;
      int64_t next = (g + kPanelGroups) * tiles.group_bytes;
      if (next >= tiles.tile_bytes) next += (kTiles - 1) * tiles.tile_bytes;
      for (int64_t i = 0; i < tiles.group_bytes; i += 64)
        _mm_prefetch(reinterpret_cast<const char*>(tile + next + i), _MM_HINT_T1);
      D::decode(tile, g, group);
      std::byte* out = panel + 64 * m;
      FETTLE_UNROLL for (int q = 0; q < 8; ++q, out += 64 * kTiles) store_ints(out, group.code[q]);
      FETTLE_UNROLL for (int h = 0; h < D::kHalves; ++h, out += 64 * kTiles)
          store_ints(out, as_ints(group.scale[h]));
      FETTLE_UNROLL for (int h = 0; h < D::kMins; ++h, out += 64 * kTiles)
          store_ints(out, as_ints(group.min[h]));
    }
}

// totals[j * kTiles + m] += groups of tokens x[0..kTokens) and kTiles tiles; x advances by x_stride a group.
template <class F, int kTiles, int kTokens, class Source>
FETTLE_INLINE void accumulate(Source source, int64_t groups, const Token* x, int64_t x_stride,
                              float* totals) {
  Floats acc[kTokens * kTiles];
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) acc[i] = load_floats(totals + 16 * i);
  for (int64_t g = 0; g < groups; ++g, x += x_stride) {
    source.start(g);
    FETTLE_UNROLL for (int h = 0; h < F::kHalves; ++h) {
      Ints sum[kTokens * kTiles];
      FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) FETTLE_UNROLL for (int m = 0; m < kTiles; ++m)
          sum[j * kTiles + m] = F::kZero != 0 ? splat_from(&x[j].term[h]) : zero_ints();
      FETTLE_UNROLL for (int q = h * 8 / F::kHalves; q < (h + 1) * 8 / F::kHalves; ++q) {
        Ints w[kTiles];
        FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) w[m] = source.code(m, q);
        FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) {
          const Ints codes = splat_from(reinterpret_cast<const int32_t*>(x[j].code) + q);
          FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) sum[j * kTiles + m] =
              dot<F::kWide>(sum[j * kTiles + m], w[m], codes);
        }
      }
      FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) {
        const Floats scale = source.scale(m, h);
        FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) acc[j * kTiles + m] = fma(
            to_floats(sum[j * kTiles + m]), multiply(scale, splat_float(&x[j].scale)), acc[j * kTiles + m]);
      }
    }
    FETTLE_UNROLL for (int h = 0; h < F::kMins; ++h) FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) {
      const Floats min = source.min(m, h);
      FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) acc[j * kTiles + m] =
          fma(min, as_floats(splat_from(&x[j].term[h])), acc[j * kTiles + m]);
    }
  }
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) store_floats(totals + 16 * i, acc[i]);
}

template <class D, int kTokens>
__attribute__((noinline)) void direct_tile(const LinearArgs& args, const PackedTiles& tiles, int64_t tile,
                                           const Gathered<Token>& x) {
  alignas(64) float totals[kTokens * kTileRows] = {};
  const DirectSource<D> source{tiles.begin + tile * tiles.tile_bytes, tiles.group_bytes, {}};
  accumulate<D, 1, kTokens>(source, args.k / 32, x.at, x.stride, totals);
  for (int j = 0; j < kTokens; ++j)
    store_output(args, tile, x.first + j, load_floats(totals + j * kTileRows));
}

template <class D, int kTokens = kDirectTokens>
void direct(const LinearArgs& args, const PackedTiles& tiles, int64_t tile, const Gathered<Token>& x) {
  if (x.count == kTokens) return direct_tile<D, kTokens>(args, tiles, tile, x);
  if constexpr (kTokens > 1) direct<D, kTokens - 1>(args, tiles, tile, x);
}

template <class D>
void direct_blocks(const LinearArgs& args, const PackedTiles& tiles, int64_t tile, const Gathered<Token>& x) {
  const int64_t blocks = (x.count + kDirectTokens - 1) / kDirectTokens;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t t = block_begin(x.count, b, blocks), count = block_begin(x.count, b + 1, blocks) - t;
    direct<D>(args, tiles, tile, {x.at + t, x.stride, x.first + t, count});
  }
}

template <class F, int kTiles, int kTokens>
__attribute__((noinline)) void panel_block(const std::byte* panel, int64_t groups, const Token* x,
                                           int64_t x_stride, float* totals) {
  accumulate<F, kTiles, kTokens>(PanelSource<F, kTiles>{panel, panel}, groups, x, x_stride, totals);
}

template <class F, int kTiles, int kTokens = kBlockTokens>
void panel_dispatch(int64_t tokens, const std::byte* panel, int64_t groups, const Token* x, int64_t x_stride,
                    float* totals) {
  if (tokens == kTokens) return panel_block<F, kTiles, kTokens>(panel, groups, x, x_stride, totals);
  if constexpr (kTokens > 1)
    panel_dispatch<F, kTiles, kTokens - 1>(tokens, panel, groups, x, x_stride, totals);
}

// Only what the inner loop needs of a scheme, so that schemes of one form share its code.
template <class D>
using FormOf = Form<(D::kZero != 0 ? 1 : 0), D::kHalves, D::kMins, D::kWide>;

template <class D, int kTiles>
void panels(const LinearArgs& args, PackedTiles tiles, int64_t tile, const Gathered<Token>& x, float* totals,
            std::byte* panel) {
  const int64_t groups = args.k / 32, blocks = (x.count + kBlockTokens - 1) / kBlockTokens;
  tiles.begin += tile * tiles.tile_bytes;
  __builtin_memset(totals, 0, static_cast<size_t>(x.count * kTiles * kTileRows) * sizeof(float));
  for (int64_t g = 0; g < groups; g += kPanelGroups) {
    const int64_t end = g + kPanelGroups < groups ? g + kPanelGroups : groups;
    expand<D, kTiles>(tiles, g, end, panel);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t t = block_begin(x.count, b, blocks), tokens = block_begin(x.count, b + 1, blocks) - t;
      if (end == groups) prefetch_output(args, tile, kTiles, x.first + t, tokens);
      panel_dispatch<FormOf<D>, kTiles>(tokens, panel, end - g, x.at + g * x.stride + t, x.stride,
                                        totals + t * kTiles * kTileRows);
    }
  }
  for (int64_t t = 0; t < x.count; ++t)
    for (int m = 0; m < kTiles; ++m)
      store_output(args, tile + m, x.first + t, load_floats(totals + (t * kTiles + m) * kTileRows));
}

template <class D>
void run_q8g32(const LinearArgs& args) {
  if (args.t <= 0 || args.tile_begin >= args.tile_end) return;
  const Q8View view = q8g32_view(const_cast<std::byte*>(args.x), args.t, args.k);
  const int64_t groups = args.k / 32, chunks = chunk_count<Token>(args.t, groups);
  const int64_t most = (args.t + chunks - 1) / chunks, stride = group_stride(most, sizeof(Token));
  const int64_t panel_bytes = kPanelGroups * PanelSource<D, kPanelTiles>::kGroupBytes;

  Carver carver(thread_scratch(Carver::bytes_of<Token>(stride * groups) +
                               Carver::bytes_of<std::byte>(panel_bytes) +
                               Carver::bytes_of<float>(most * kPanelTiles * kTileRows)));
  Token* tokens = carver.take<Token>(stride * groups);
  float* totals = carver.take<float>(most * kPanelTiles * kTileRows);
  std::byte* panel = carver.take<std::byte>(panel_bytes);

  const int64_t tile_bytes = packed_tile_bytes(D::kScheme, args.k);
  const PackedTiles tiles{args.weight, tile_bytes, tile_bytes / groups};
  for (int64_t c = 0; c < chunks; ++c) {
    const int64_t first = block_begin(args.t, c, chunks);
    const Gathered<Token> x{tokens, stride, first, block_begin(args.t, c + 1, chunks) - first};
    gather<D>(view, groups, x);
    int64_t tile = args.tile_begin;
    if (x.count <= kDirectBlocks * kDirectTokens) {
      for (; tile < args.tile_end; ++tile) direct_blocks<D>(args, tiles, tile, x);
      continue;
    }
    for (; tile + kPanelTiles <= args.tile_end; tile += kPanelTiles)
      panels<D, kPanelTiles>(args, tiles, tile, x, totals, panel);
    for (; tile < args.tile_end; ++tile) panels<D, 1>(args, tiles, tile, x, totals, panel);
  }
}

}  // namespace
}  // namespace fettle::linear
