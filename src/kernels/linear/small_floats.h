// Packed small floats -> bf16 codes, exactly, in simd terms: what blocks.h knows of the schemes f8b128 and
// mxfp4. A quad is 4 consecutive k of the 16 rows, row r in lane r. The value of a weight is code * scale.
#pragma once

namespace fettle::linear {
namespace {

// bf16 codes in two halves: byte i of a lane belongs to the quad's k = i.
struct Quad {
  Ints high, low;
};

// bf16 of the quad's (0, 2) or (1, 3): the even or odd bytes, each in one half of a lane.
FETTLE_INLINE Ints even_pair(Quad q) {
  return bit_or(bit_and(q.low, splat(0x00ff00ff)), bit_and(shift_left<8>(q.high), splat(0xff00ff00)));
}
FETTLE_INLINE Ints odd_pair(Quad q) {
  return bit_or(bit_and(shift_right<8>(q.low), splat(0x00ff00ff)), bit_and(q.high, splat(0xff00ff00)));
}

// A scheme's place in a tile: block b begins at codes, its 16 scales at scale(). kPasses runs of quads make a
// block, each of at most kPassQuads.
template <Scheme kScheme>
struct Blocks;

template <>
struct Blocks<Scheme::kF8B128> {
  static constexpr int64_t kColumns = 128, kPassQuads = 32;
  static constexpr int kPasses = 1;
  static constexpr int64_t kQuadBytes = 64;

  FETTLE_INLINE static const std::byte* block(const std::byte* tile, int64_t b) {
    return tile + b * kPassQuads * kQuadBytes;
  }
  FETTLE_INLINE static Floats scale(const std::byte* tile, int64_t b, int64_t k) {
    return load_floats(reinterpret_cast<const float*>(tile + 16 * f8_code_bytes(k) + 64 * b));
  }
  template <int kPass>
  FETTLE_INLINE static Quad quad(const std::byte* block, int64_t q) {
    const Ints code = load_ints(block + kQuadBytes * q);
    const Ints nibble = bit_and(code, splat(0x0f0f0f0f)), sign = bit_and(code, splat(0x80808080));
    const Ints normal = splat(0x78787878);
    const Ints high = lookup(table16(kE4m3High), bit_and(shift_right<4>(code), splat(0x0f0f0f0f)));
    const Ints low = bit_and(shift_left<4>(code), splat(0xf0f0f0f0));
    Quad out{select_bits(code, normal, high, bit_or(sign, lookup(table16(kE4m3LowHigh), nibble))),
             select_bits(code, normal, low, lookup(table16(kE4m3LowLow), nibble))};
    // NaN, the magnitude 0x7f, is the only one that reaches the sign bit by adding 1.
    const Ints next = add_bytes(bit_and(code, splat(0x7f7f7f7f)), splat(0x01010101));
    out.high = select_bits(next, splat(0x80808080), bit_or(out.high, splat(0x7f7f7f7f)), out.high);
    return out;
  }
};

template <>
struct Blocks<Scheme::kMXFP4> {
  static constexpr int64_t kColumns = 32, kPassQuads = 4;
  static constexpr int kPasses = 2;

  FETTLE_INLINE static const std::byte* block(const std::byte* tile, int64_t b) { return tile + b * 16 * 17; }
  FETTLE_INLINE static Floats scale(const std::byte* tile, int64_t b, int64_t) {
    return load_exponents(block(tile, b));
  }
  template <int kPass>
  FETTLE_INLINE static Quad quad(const std::byte* block, int64_t q) {
    const Ints nibble = bit_and(shift_right<4 * kPass>(load_ints(block + 16 + 64 * q)), splat(0x0f0f0f0f));
    return {lookup(table16(kE2m1High), nibble), lookup(table16(kE2m1Low), nibble)};
  }
};

}  // namespace
}  // namespace fettle::linear
