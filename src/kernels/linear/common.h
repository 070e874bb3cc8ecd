// What the kernels of int8.h, i8c.h and floats.h share: the unrolling pragma, the parts of the scratch block,
// and what becomes of a finished sum: bias, accumulation, the edge of y.
#pragma once

#if defined(__clang__)
#define FETTLE_UNROLL _Pragma("unroll")
#else
#define FETTLE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace fettle::linear {
namespace {

// 16 e8m0 codes: 2^(e-127), whose exponent field is e, but for e = 0 (subnormal) and 255 (NaN).
FETTLE_INLINE Floats load_exponents(const std::byte* p) {
  const Ints e = load_bytes(p);
  const Ints bits = select_equal(e, splat(0), splat(0x00400000), shift_left<23>(e));
  return as_floats(select_equal(e, splat(255), splat(0x7fc00000), bits));
}

// Hands out the parts of one block.
class Carver {
 public:
  explicit Carver(std::byte* begin) : next_(begin) {}
  template <typename T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(next_);
    next_ += bytes_of<T>(count);
    return part;
  }
  template <typename T>
  static int64_t bytes_of(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }

 private:
  std::byte* next_;
};

// Groups of 32 k multiplied before the next tokens: 8 KiB of codes a tile, so that two tiles and a block of
// tokens fit in L1.
constexpr int64_t kPanelGroups = 16;
// Int8 tokens at a time; they are read again for every panel, from L2.
constexpr int64_t kTokenBytes = 768 << 10;

// Where block b of `blocks` begins among `count` tokens, as evenly as can be: 16 in 3 blocks are 5, 5, 6.
FETTLE_INLINE int64_t block_begin(int64_t count, int64_t b, int64_t blocks) { return count * b / blocks; }

// How far apart, in tokens, to keep the groups of `count` gathered tokens. A block of tokens reads a line or
// two of every group of a panel; multiples of 2 KiB apart, those would all fall into the same few sets of L1.
FETTLE_INLINE int64_t group_stride(int64_t count, int64_t token_bytes) {
  int64_t stride = count;
  while (stride * token_bytes > 2048 && (stride * token_bytes + 256) % 2048 < 512) ++stride;
  return stride;
}

// In how many parts of at most kTokenBytes, but of some blocks at least, to gather t tokens.
template <class T>
FETTLE_INLINE int64_t chunk_count(int64_t t, int64_t groups) {
  const int64_t fitting = kTokenBytes / (groups * static_cast<int64_t>(sizeof(T)));
  const int64_t limit = fitting > 8 * kBlockTokens ? fitting : 8 * kBlockTokens;
  return (t + limit - 1) / limit;
}

// Tokens first..first + count of x, gathered: group g of token first + t is at[g * stride + t].
template <class T>
struct Gathered {
  T* at;
  int64_t stride, first, count;
};

// With many tokens y is larger than L2, and a tile touches one line of each row: ask for them while the last
// panel is multiplied.
FETTLE_INLINE void prefetch_output(const LinearArgs& args, int64_t tile, int64_t tiles, int64_t first,
                                   int64_t tokens) {
  for (int64_t t = first; t < first + tokens; ++t)
    for (int64_t m = tile; m < tile + tiles; ++m)
      __builtin_prefetch(args.y + t * args.ldy + m * kTileRows, 1);
}

// sum: y of the 16 rows of `tile`, token t.
FETTLE_INLINE void store_output(const LinearArgs& args, int64_t tile, int64_t t, Floats sum) {
  const int64_t row = tile * kTileRows, count = args.n - row;
  float* y = args.y + t * args.ldy + row;
  if (count >= kTileRows) {
    if (args.bias != nullptr) sum = add(sum, load_floats(args.bias + row));
    store_floats(y, args.accumulate ? add(load_floats(y), sum) : sum);
  } else {
    if (args.bias != nullptr) sum = add(sum, load_part(args.bias + row, count));
    store_part(y, args.accumulate ? add(load_part(y, count), sum) : sum, count);
  }
}

}  // namespace
}  // namespace fettle::linear
