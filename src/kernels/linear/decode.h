// Packed groups -> unsigned codes and float scales, one struct a scheme; in simd terms, so for every
// instruction set. A group is 32 k of the 16 rows: code[q] holds k = 4q..4q+3, row r in lane r. The weight is
// (code - kZero) * scale + min, exactly the Group of ref.cc. The field at offset o of a canonical block
// begins at 16 * o here (layout.cc), hence the `16 *`.
#pragma once

namespace fettle::linear {
namespace {

struct Decoded {
  Ints code[8];
  Floats scale[2];
  Floats min[2];
};

// What the inner loops must know of a scheme. kHalves: scales a group; kMins: minimum terms a group; kWide:
// codes above 128.
template <int kZeroCode, int kHalfCount = 1, int kMinCount = 0, bool kWideCodes = false>
struct Form {
  static constexpr int kZero = kZeroCode, kHalves = kHalfCount, kMins = kMinCount;
  static constexpr bool kWide = kWideCodes;
  static_assert(kZero == 0 || kMins == 0, "a token carries either zero terms or minimum terms");
};

template <Scheme kScheme>
struct Decoder;

constexpr uint32_t kBytesOf15 = 0x0f0f0f0f, kBytesOf3 = 0x03030303;
template <int kShift>
FETTLE_INLINE Ints field(Ints v, uint32_t mask) {
  return bit_and(shift_right<kShift>(v), splat(mask));
}

// Every byte of a lane = the lane's byte number `byte`.
FETTLE_INLINE Ints repeat_byte(Ints v, int byte) {
  alignas(16) static constexpr uint32_t kPattern[4] = {0x00000000, 0x04040404, 0x08080808, 0x0c0c0c0c};
  return lookup(v, add_bytes(table16(kPattern), splat(0x01010101u * static_cast<uint32_t>(byte))));
}
FETTLE_INLINE Ints repeat_word(Ints v) { return bit_or(v, shift_left<16>(v)); }

// 16 bytes a row: low nibbles are k = 0..15, high ones 16..31.
FETTLE_INLINE void nibbles(const std::byte* p, Ints code[8]) {
  FETTLE_UNROLL for (int q = 0; q < 4; ++q) {
    const Ints v = load_ints(p + 64 * q);
    code[q] = field<0>(v, kBytesOf15);
    code[q + 4] = field<4>(v, kBytesOf15);
  }
}

// Adds 16 where the row's bit k is set: bits 4q..4q+3 of a lane belong to the four bytes of code[q].
FETTLE_INLINE void fifth_bits(const std::byte* p, Ints code[8]) {
  const Ints bits = load_ints(p);
  FETTLE_UNROLL for (int q = 0; q < 8; ++q) {
    const Ints mask = splat(q % 2 == 0 ? 0x08040201u : 0x80402010u);
    code[q] = select_bits(repeat_byte(bits, q / 2), mask, bit_or(code[q], splat(0x10101010)), code[q]);
  }
}

template <>
struct Decoder<Scheme::kQ4_0> : Form<8> {
  static constexpr Scheme kScheme = Scheme::kQ4_0;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 18;
    out.scale[0] = load_halves(p);
    nibbles(p + 16 * 2, out.code);
  }
};

template <>
struct Decoder<Scheme::kI4G32> : Decoder<Scheme::kQ4_0> {};

template <>
struct Decoder<Scheme::kQ4_1> : Form<0, 1, 1> {
  static constexpr Scheme kScheme = Scheme::kQ4_1;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 20;
    out.scale[0] = load_halves(p);
    out.min[0] = load_halves(p + 16 * 2);
    nibbles(p + 16 * 4, out.code);
  }
};

template <>
struct Decoder<Scheme::kQ5_0> : Form<16> {
  static constexpr Scheme kScheme = Scheme::kQ5_0;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 22;
    out.scale[0] = load_halves(p);
    nibbles(p + 16 * 6, out.code);
    fifth_bits(p + 16 * 2, out.code);
  }
};

template <>
struct Decoder<Scheme::kQ5_1> : Form<0, 1, 1> {
  static constexpr Scheme kScheme = Scheme::kQ5_1;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 24;
    out.scale[0] = load_halves(p);
    out.min[0] = load_halves(p + 16 * 2);
    nibbles(p + 16 * 8, out.code);
    fifth_bits(p + 16 * 4, out.code);
  }
};

template <>
struct Decoder<Scheme::kQ8_0> : Form<128, 1, 0, true> {
  static constexpr Scheme kScheme = Scheme::kQ8_0;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 34;
    out.scale[0] = load_halves(p);
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) out.code[q] =
        bit_xor(load_ints(p + 16 * 2 + 64 * q), splat(0x80808080));
  }
};

template <>
struct Decoder<Scheme::kIQ4_NL> : Form<128, 1, 0, true> {
  static constexpr Scheme kScheme = Scheme::kIQ4_NL;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 18;
    const Ints table = bit_xor(table16(kIq4Values), splat(0x80808080));
    out.scale[0] = load_halves(p);
    nibbles(p + 16 * 2, out.code);
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) out.code[q] = lookup(table, out.code[q]);
  }
};

template <>
struct Decoder<Scheme::kMXFP4> : Form<12> {
  static constexpr Scheme kScheme = Scheme::kMXFP4;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 17;
    const Ints table = add_bytes(table16(kE2m1Doubled), splat(0x0c0c0c0c));
    nibbles(p + 16, out.code);
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) out.code[q] = lookup(table, out.code[q]);

    out.scale[0] = multiply(load_exponents(p), as_floats(splat(0x3f000000)));
  }
};

// The zero point varies by row; (q + 15 - z) is unsigned with the same zero, 15, everywhere.
template <>
struct Decoder<Scheme::kI4G32Z> : Form<15> {
  static constexpr Scheme kScheme = Scheme::kI4G32Z;
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g * 16 * 19;
    const Ints z = bit_and(load_bytes(p + 16 * 2), splat(15));
    const Ints offset = sub_bytes(splat(0x0f0f0f0f), repeat_byte(z, 0));
    out.scale[0] = load_halves(p);
    nibbles(p + 16 * 3, out.code);
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) out.code[q] = add_bytes(out.code[q], offset);
  }
};

// The schemes of super-blocks: part<p> decodes part p of the 8, all shifts being constants; a switch finds
// it.
template <class Parts, int kBlockBytes>
struct SuperBlocks {
  FETTLE_INLINE static void decode(const std::byte* tile, int64_t g, Decoded& out) {
    const std::byte* p = tile + g / 8 * 16 * kBlockBytes;
    switch (g % 8) {
      case 0:
        return Parts::template part<0>(p, out);
      case 1:
        return Parts::template part<1>(p, out);
      case 2:
        return Parts::template part<2>(p, out);
      case 3:
        return Parts::template part<3>(p, out);
      case 4:
        return Parts::template part<4>(p, out);
      case 5:
        return Parts::template part<5>(p, out);
      case 6:
        return Parts::template part<6>(p, out);
      default:
        return Parts::template part<7>(p, out);
    }
  }
};

FETTLE_INLINE Floats minus_halves(const std::byte* p) {
  return as_floats(bit_xor(as_ints(load_halves(p)), splat(0x80000000)));
}

// Codes 0..3 times sub-scales 0..15 stay below 46.
template <>
struct Decoder<Scheme::kQ2_K> : Form<0, 1, 2>, SuperBlocks<Decoder<Scheme::kQ2_K>, 84> {
  static constexpr Scheme kScheme = Scheme::kQ2_K;
  template <int kPart, int kHalf>
  FETTLE_INLINE static void half(const std::byte* p, Decoded& out) {
    constexpr int kShift = 16 * (kPart % 2) + 8 * kHalf;
    const Ints scales = load_ints(p + 64 * (kPart / 2));
    const Ints scale = repeat_word(field<kShift>(scales, 15));
    out.min[kHalf] = multiply(minus_halves(p + 16 * 82), to_floats(field<kShift + 4>(scales, 15)));
    FETTLE_UNROLL for (int q = 4 * kHalf; q < 4 * kHalf + 4; ++q) {
      const Ints v = load_ints(p + 16 * 16 + 64 * (8 * (kPart / 4) + q));
      out.code[q] = multiply_words(field<2 * (kPart % 4)>(v, kBytesOf3), scale);
    }
  }
  template <int kPart>
  FETTLE_INLINE static void part(const std::byte* p, Decoded& out) {
    out.scale[0] = load_halves(p + 16 * 80);
    half<kPart, 0>(p, out);
    half<kPart, 1>(p, out);
  }
};

// Value (low + 4 * high - 4) * (s - 32) with low in 0..3, high in 0..1, s in 0..63; plus 124 it fits a byte:
// low * s - 32 * low + (high ? 124 : 252 - 4 * s), modulo 256; low * s <= 189 never carries into the next
// byte.
template <>
struct Decoder<Scheme::kQ3_K> : Form<124, 1, 0, true>, SuperBlocks<Decoder<Scheme::kQ3_K>, 110> {
  static constexpr Scheme kScheme = Scheme::kQ3_K;
  template <int kIndex>
  FETTLE_INLINE static Ints sub_scale(const std::byte* p) {
    const Ints low = field<8 * (kIndex % 4) + 4 * (kIndex / 8)>(load_ints(p + 64 * (kIndex % 8 / 4)), 15);
    const Ints high = field<8 * (kIndex % 4) + 2 * (kIndex / 4)>(load_ints(p + 64 * 2), 3);
    return bit_or(low, shift_left<4>(high));
  }
  template <int kPart, int kHalf>
  FETTLE_INLINE static void half(const std::byte* p, Decoded& out) {
    const Ints high_bit = splat(0x01010101u << kPart);
    const Ints s = sub_scale<2 * kPart + kHalf>(p + 16 * 96);
    const Ints scale = repeat_word(s);
    const Ints without_high = sub_bytes(splat(0xfcfcfcfc), repeat_byte(shift_left<2>(s), 0));
    FETTLE_UNROLL for (int q = 4 * kHalf; q < 4 * kHalf + 4; ++q) {
      const Ints low = field<2 * (kPart % 4)>(load_ints(p + 16 * 32 + 64 * (8 * (kPart / 4) + q)), kBytesOf3);
      const Ints product = sub_bytes(multiply_words(low, scale), shift_left<5>(low));
      const Ints offset = select_bits(load_ints(p + 64 * q), high_bit, splat(0x7c7c7c7c), without_high);
      out.code[q] = add_bytes(product, offset);
    }
  }
  template <int kPart>
  FETTLE_INLINE static void part(const std::byte* p, Decoded& out) {
    out.scale[0] = load_halves(p + 16 * 108);
    half<kPart, 0>(p, out);
    half<kPart, 1>(p, out);
  }
};

// Scale and minimum of one of the eight parts of Q4_K and Q5_K: 6 bits each, in three dwords a row.
template <int kPart>
FETTLE_INLINE void scale_min(const std::byte* p, Decoded& out) {
  constexpr int kShift = 8 * (kPart % 4);
  const Ints a = load_ints(p + 16 * 4), b = load_ints(p + 16 * 8);
  Ints scale, min;
  if constexpr (kPart < 4) {
    scale = field<kShift>(a, 63);
    min = field<kShift>(b, 63);
  } else {
    const Ints c = load_ints(p + 16 * 12);
    scale = bit_or(field<kShift>(c, 15), shift_left<4>(field<kShift + 6>(a, 3)));
    min = bit_or(field<kShift + 4>(c, 15), shift_left<4>(field<kShift + 6>(b, 3)));
  }
  out.scale[0] = multiply(load_halves(p), to_floats(scale));
  out.min[0] = multiply(minus_halves(p + 16 * 2), to_floats(min));
}

template <>
struct Decoder<Scheme::kQ4_K> : Form<0, 1, 1>, SuperBlocks<Decoder<Scheme::kQ4_K>, 144> {
  static constexpr Scheme kScheme = Scheme::kQ4_K;
  template <int kPart>
  FETTLE_INLINE static void part(const std::byte* p, Decoded& out) {
    scale_min<kPart>(p, out);
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) out.code[q] =
        field<4 * (kPart % 2)>(load_ints(p + 16 * 16 + 64 * (8 * (kPart / 2) + q)), kBytesOf15);
  }
};

template <>
struct Decoder<Scheme::kQ5_K> : Form<0, 1, 1>, SuperBlocks<Decoder<Scheme::kQ5_K>, 176> {
  static constexpr Scheme kScheme = Scheme::kQ5_K;
  template <int kPart>
  FETTLE_INLINE static void part(const std::byte* p, Decoded& out) {
    scale_min<kPart>(p, out);
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) {
      const Ints low =
          field<4 * (kPart % 2)>(load_ints(p + 16 * 48 + 64 * (8 * (kPart / 2) + q)), kBytesOf15);
      const Ints bit = splat(0x01010101u << kPart);
      out.code[q] = select_bits(load_ints(p + 16 * 16 + 64 * q), bit, bit_or(low, splat(0x10101010)), low);
    }
  }
};

template <>
struct Decoder<Scheme::kQ6_K> : Form<32, 2>, SuperBlocks<Decoder<Scheme::kQ6_K>, 210> {
  static constexpr Scheme kScheme = Scheme::kQ6_K;
  template <int kPart>
  FETTLE_INLINE static void part(const std::byte* p, Decoded& out) {
    constexpr int kHalfBlock = kPart / 4, kPlane = kPart % 4, kShift = 24 - 16 * (kPart % 2);
    const Floats d = load_halves(p + 16 * 208);
    const Ints scales = load_ints(p + 16 * 192 + 64 * (kPart / 2));
    out.scale[0] = multiply(d, to_floats(shift_right_signed<24>(shift_left<kShift>(scales))));
    out.scale[1] = multiply(d, to_floats(shift_right_signed<24>(shift_left<kShift - 8>(scales))));
    FETTLE_UNROLL for (int q = 0; q < 8; ++q) {
      const Ints low = load_ints(p + 64 * (16 * kHalfBlock + 8 * (kPlane % 2) + q));
      const Ints high = load_ints(p + 16 * 128 + 64 * (8 * kHalfBlock + q));
      out.code[q] =
          bit_or(field<4 * (kPlane / 2)>(low, kBytesOf15), shift_left<4>(field<2 * kPlane>(high, kBytesOf3)));
    }
  }
};

}  // namespace
}  // namespace fettle::linear
