// i8c x q8t, in simd terms: whole rows of whole numbers, so the only float operation comes last. Blocks and
// panels as in int8.h.
#pragma once

namespace fettle::linear {
namespace {

constexpr int64_t kI8cHeader = 64;      // 16 fp32 scales
constexpr int64_t kI8cGroup = 16 * 32;  // bytes of 32 k

struct Codes {  // 32 k of one token
  int8_t code[32];
};

// sums[j * kTiles + m] += ...; the weights' sign bits are flipped to make them unsigned, zero 128, on the
// way.
template <int kTiles, int kTokens>
__attribute__((noinline)) void i8c_block(const std::byte* codes, int64_t tile_bytes, int64_t groups,
                                         const Codes* x, int64_t x_stride, std::byte* sums) {
  Ints sum[kTokens * kTiles];
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) sum[i] = load_ints(sums + 64 * i);
  const Ints sign = splat(0x80808080);
  for (int64_t g = 0; g < groups; ++g, x += x_stride, codes += kI8cGroup) {
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) {
      Ints w[kTiles];
      FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) w[m] =
          bit_xor(load_ints(codes + m * tile_bytes + 64 * q), sign);
      FETTLE_UNROLL for (int j = 0; j < kTokens; ++j) {
        const Ints broadcast = splat_from(reinterpret_cast<const int32_t*>(x[j].code) + q);
        FETTLE_UNROLL for (int m = 0; m < kTiles; ++m) sum[j * kTiles + m] =
            dot<true>(sum[j * kTiles + m], w[m], broadcast);
      }
    }
  }
  FETTLE_UNROLL for (int i = 0; i < kTokens * kTiles; ++i) store_ints(sums + 64 * i, sum[i]);
}

template <int kTiles, int kTokens = kBlockTokens>
void i8c_dispatch(int64_t tokens, const std::byte* codes, int64_t tile_bytes, int64_t groups, const Codes* x,
                  int64_t x_stride, std::byte* sums) {
  if (tokens == kTokens) return i8c_block<kTiles, kTokens>(codes, tile_bytes, groups, x, x_stride, sums);
  if constexpr (kTokens > 1)
    i8c_dispatch<kTiles, kTokens - 1>(tokens, codes, tile_bytes, groups, x, x_stride, sums);
}

template <int kTiles>
void i8c_tiles(const LinearArgs& args, const Q8View& view, int64_t tile, const Gathered<Codes>& x,
               std::byte* sums) {
  const int64_t tile_bytes = packed_tile_bytes(Scheme::kI8C, args.k), groups = (args.k + 31) / 32;
  const int64_t blocks = (x.count + kBlockTokens - 1) / kBlockTokens;
  const std::byte* weight = args.weight + tile * tile_bytes;
  for (int64_t t = 0; t < x.count; ++t)
    for (int m = 0; m < kTiles; ++m)
      store_ints(sums + (t * kTiles + m) * 64, splat(static_cast<uint32_t>(view.sums[x.first + t]) * -128u));

  for (int64_t g = 0; g < groups; g += kPanelGroups) {
    const int64_t end = g + kPanelGroups < groups ? g + kPanelGroups : groups;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t t = block_begin(x.count, b, blocks), tokens = block_begin(x.count, b + 1, blocks) - t;
      if (end == groups) prefetch_output(args, tile, kTiles, x.first + t, tokens);
      i8c_dispatch<kTiles>(tokens, weight + kI8cHeader + g * kI8cGroup, tile_bytes, end - g,
                           x.at + g * x.stride + t, x.stride, sums + t * kTiles * 64);
    }
  }
  for (int64_t t = 0; t < x.count; ++t)
    for (int m = 0; m < kTiles; ++m) {
      const Floats scale = as_floats(load_ints(weight + m * tile_bytes));
      const Floats sum = to_floats(load_ints(sums + (t * kTiles + m) * 64));
      store_output(args, tile + m, x.first + t,
                   fma(sum, multiply(scale, splat_float(view.scales + x.first + t)), zero_floats()));
    }
}

void run_i8c(const LinearArgs& args) {
  if (args.t <= 0 || args.tile_begin >= args.tile_end) return;
  const Q8View view = q8t_view(const_cast<std::byte*>(args.x), args.t, args.k);
  const int64_t groups = (args.k + 31) / 32, chunks = chunk_count<Codes>(args.t, groups);
  const int64_t most = (args.t + chunks - 1) / chunks, stride = group_stride(most, sizeof(Codes));

  Carver carver(thread_scratch(Carver::bytes_of<Codes>(stride * groups) +
                               Carver::bytes_of<float>(most * kWideTiles * kTileRows)));
  Codes* codes = carver.take<Codes>(stride * groups);
  std::byte* sums = carver.take<std::byte>(most * kWideTiles * 64);

  for (int64_t c = 0; c < chunks; ++c) {
    const int64_t first = block_begin(args.t, c, chunks);
    const Gathered<Codes> x{codes, stride, first, block_begin(args.t, c + 1, chunks) - first};
    for (int64_t t = 0; t < x.count; ++t)
      for (int64_t g = 0; g < groups; ++g)
        __builtin_memcpy(codes[g * stride + t].code, view.codes + (first + t) * view.k_padded + g * 32, 32);
    int64_t tile = args.tile_begin;
    // Few tokens need more tiles for independent sums; many run faster over a panel that leaves L1 some room.
    if (x.count <= 8)
      for (; tile + kWideTiles <= args.tile_end; tile += kWideTiles)
        i8c_tiles<kWideTiles>(args, view, tile, x, sums);
    for (; tile + 2 <= args.tile_end; tile += 2) i8c_tiles<2>(args, view, tile, x, sums);
    for (; tile < args.tile_end; ++tile) i8c_tiles<1>(args, view, tile, x, sums);
  }
}

}  // namespace
}  // namespace fettle::linear
