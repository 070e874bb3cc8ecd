#include "tensor/block_decode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "tensor/numbers.h"
#include "tensor/scheme.h"

namespace fettle::decode {

static_assert(std::endian::native == std::endian::little, "coded rows are little-endian and read in place");

namespace {

template <typename T>
T load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
float load_f16(const uint8_t* p) { return f16_to_f32(load<uint16_t>(p)); }

// Calls decode_block(bytes, values) on every block of a row.
template <int kElems, int kBytes, typename F>
void each_block(const std::byte* row, int64_t k, float* out, F decode_block) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(row);
  for (int64_t i = 0; i < k; i += kElems, p += kBytes) decode_block(p, out + i);
}

// Rows of 16-bit numbers. Sixteen at a time, because a loop of known length becomes vector code.
template <float (*kValue)(uint16_t)>
void each_16_bit(const std::byte* row, int64_t k, float* out) {
  constexpr int64_t kStep = 16;
  int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
    uint16_t codes[kStep];
    std::memcpy(codes, row + 2 * i, sizeof codes);
    for (int64_t e = 0; e < kStep; ++e) out[i + e] = kValue(codes[e]);
  }
  for (; i < k; ++i) out[i] = kValue(load<uint16_t>(reinterpret_cast<const uint8_t*>(row + 2 * i)));
}

// 32 four-bit codes in 16 bytes: the low nibbles are elements 0..15, the high ones 16..31.
template <typename F>
void each_nibble(const uint8_t* codes, float* out, F value) {
  for (int e = 0; e < 16; ++e) out[e] = value(codes[e] & 15, e);
  for (int e = 0; e < 16; ++e) out[e + 16] = value(codes[e] >> 4, e + 16);
}

// Q4_K and Q5_K pack eight 6-bit scales and eight 6-bit minima into 12 bytes.
struct ScaleMin {
  int scale, min;
};
ScaleMin unpack_scale_min(const uint8_t* scales, int sub) {
  if (sub < 4) return {scales[sub] & 63, scales[sub + 4] & 63};
  return {(scales[sub + 4] & 15) | (scales[sub - 4] >> 6) << 4, scales[sub + 4] >> 4 | (scales[sub] >> 6)
                                                                                           << 4};
}

// Q3_K packs sixteen 6-bit scales, less 32, into 12 bytes: low nibbles first, then the upper pairs of bits.
int unpack_q3_scale(const uint8_t* scales, int sub) {
  const int low = sub < 8 ? scales[sub] & 15 : scales[sub - 8] >> 4;
  const int high = scales[8 + sub % 4] >> 2 * (sub / 4) & 3;
  return (low | high << 4) - 32;
}

constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Twice the e2m1 values, so that they are whole.
constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace

void f32(const std::byte* row, int64_t k, float* out) {
  std::memcpy(out, row, static_cast<size_t>(k) * sizeof(float));
}

void f16(const std::byte* row, int64_t k, float* out) { each_16_bit<f16_to_f32>(row, k, out); }

void bf16(const std::byte* row, int64_t k, float* out) { each_16_bit<bf16_to_f32>(row, k, out); }

void q4_0(const std::byte* row, int64_t k, float* out) {
  each_block<32, 18>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b);
    each_nibble(b + 2, v, [d](int q, int) { return static_cast<float>(q - 8) * d; });
  });
}

void q4_1(const std::byte* row, int64_t k, float* out) {
  each_block<32, 20>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b), m = load_f16(b + 2);
    each_nibble(b + 4, v, [d, m](int q, int) { return static_cast<float>(q) * d + m; });
  });
}

void q5_0(const std::byte* row, int64_t k, float* out) {
  each_block<32, 22>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b);
    const uint32_t fifth = load<uint32_t>(b + 2);
    each_nibble(b + 6, v, [d, fifth](int q, int e) {
      return static_cast<float>((q | static_cast<int>(fifth >> e & 1u) << 4) - 16) * d;
    });
  });
}

void q5_1(const std::byte* row, int64_t k, float* out) {
  each_block<32, 24>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b), m = load_f16(b + 2);
    const uint32_t fifth = load<uint32_t>(b + 4);
    each_nibble(b + 8, v, [d, m, fifth](int q, int e) {
      return static_cast<float>(q | static_cast<int>(fifth >> e & 1u) << 4) * d + m;
    });
  });
}

void q8_0(const std::byte* row, int64_t k, float* out) {
  each_block<32, 34>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b);
    for (int e = 0; e < 32; ++e) v[e] = static_cast<float>(static_cast<int8_t>(b[2 + e])) * d;
  });
}

// The 2-bit codes of Q2_K and Q3_K lie 128 elements to 32 bytes, in four planes of two bits: sub-block
// 8n+2j+h, 16 elements each.
void q2_k(const std::byte* row, int64_t k, float* out) {
  each_block<256, 84>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b + 80), dmin = load_f16(b + 82);
    for (int sub = 0; sub < 16; ++sub) {
      const int n = sub / 8, j = sub / 2 % 4, h = sub % 2;
      const float scale = d * static_cast<float>(b[sub] & 15), min = dmin * static_cast<float>(b[sub] >> 4);
      const uint8_t* codes = b + 16 + 32 * n + 16 * h;
      for (int l = 0; l < 16; ++l) v[16 * sub + l] = scale * static_cast<float>(codes[l] >> 2 * j & 3) - min;
    }
  });
}

void q3_k(const std::byte* row, int64_t k, float* out) {
  each_block<256, 110>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b + 108);
    for (int sub = 0; sub < 16; ++sub) {
      const int n = sub / 8, j = sub / 2 % 4, h = sub % 2;
      const float scale = d * static_cast<float>(unpack_q3_scale(b + 96, sub));
      const uint8_t* third = b + 16 * h;
      const uint8_t* codes = b + 32 + 32 * n + 16 * h;
      for (int l = 0; l < 16; ++l) {
        const int q = (codes[l] >> 2 * j & 3) - (third[l] >> (4 * n + j) & 1 ? 0 : 4);
        v[16 * sub + l] = scale * static_cast<float>(q);
      }
    }
  });
}

void q4_k(const std::byte* row, int64_t k, float* out) {
  each_block<256, 144>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b), dmin = load_f16(b + 2);
    for (int sub = 0; sub < 8; ++sub) {
      const ScaleMin s = unpack_scale_min(b + 4, sub);
      const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
      const uint8_t* codes = b + 16 + 32 * (sub / 2);
      const int shift = 4 * (sub % 2);
      for (int l = 0; l < 32; ++l) v[32 * sub + l] = scale * static_cast<float>(codes[l] >> shift & 15) - min;
    }
  });
}

void q5_k(const std::byte* row, int64_t k, float* out) {
  each_block<256, 176>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b), dmin = load_f16(b + 2);
    const uint8_t* fifth = b + 16;
    for (int sub = 0; sub < 8; ++sub) {
      const ScaleMin s = unpack_scale_min(b + 4, sub);
      const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
      const uint8_t* codes = b + 48 + 32 * (sub / 2);
      const int shift = 4 * (sub % 2);
      for (int l = 0; l < 32; ++l) {
        const int q = (codes[l] >> shift & 15) | (fifth[l] >> sub & 1) << 4;
        v[32 * sub + l] = scale * static_cast<float>(q) - min;
      }
    }
  });
}

void q6_k(const std::byte* row, int64_t k, float* out) {
  each_block<256, 210>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b + 208);
    for (int sub = 0; sub < 16; ++sub) {
      const int n = sub / 8, t = sub / 2 % 4, h = sub % 2;
      const float scale = d * static_cast<float>(static_cast<int8_t>(b[192 + sub]));
      const uint8_t* low = b + 64 * n + 32 * (t % 2) + 16 * h;
      const uint8_t* high = b + 128 + 32 * n + 16 * h;
      for (int l = 0; l < 16; ++l) {
        const int q = (low[l] >> 4 * (t / 2) & 15) | (high[l] >> 2 * t & 3) << 4;
        v[16 * sub + l] = scale * static_cast<float>(q - 32);
      }
    }
  });
}

void iq4_nl(const std::byte* row, int64_t k, float* out) {
  each_block<32, 18>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b);
    each_nibble(b + 2, v, [d](int q, int) { return static_cast<float>(kIq4Values[q]) * d; });
  });
}

void mxfp4(const std::byte* row, int64_t k, float* out) {
  each_block<32, 17>(row, k, out, [](const uint8_t* b, float* v) {
    const float scale = e8m0_to_f32(b[0]);
    each_nibble(b + 1, v, [scale](int q, int) { return static_cast<float>(kE2m1Doubled[q]) * 0.5f * scale; });
  });
}

void i8c(const std::byte* row, int64_t k, float* out) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(row);
  const float scale = load<float>(p);
  for (int64_t i = 0; i < k; ++i) out[i] = static_cast<float>(static_cast<int8_t>(p[4 + i])) * scale;
}

void i4g32(const std::byte* row, int64_t k, float* out) { q4_0(row, k, out); }

void i4g32z(const std::byte* row, int64_t k, float* out) {
  each_block<32, 19>(row, k, out, [](const uint8_t* b, float* v) {
    const float d = load_f16(b);
    const int zero = b[2];
    each_nibble(b + 3, v, [d, zero](int q, int) { return static_cast<float>(q - zero) * d; });
  });
}

void f8b128(const std::byte* row, int64_t k, float* out) {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (int code = 0; code < 256; ++code) table[code] = e4m3_to_f32(static_cast<uint8_t>(code));
    return table;
  }();
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(row);
  for (int64_t begin = 0; begin < k; begin += kF8Block) {
    const float scale = load<float>(codes + f8_code_bytes(k) + begin / kF8Block * 4);
    for (int64_t i = begin; i < std::min(k, begin + kF8Block); ++i) out[i] = values[codes[i]] * scale;
  }
}

}  // namespace fettle::decode
