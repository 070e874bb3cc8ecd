// The definition of every linear kernel, written to be read: rows are unpacked, codes and scales taken apart
// one by one, and the order of floating-point operations stated once. The faster files must give the same
// bits, except bf16 x bf16 on AVX512-BF16, whose instruction rounds in its own way.
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/linear/isa.h"
#include "kernels/linear/numerics.h"
#include "tensor/numbers.h"

namespace fettle::linear {
namespace {

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
float load_f16(const std::byte* p) { return f16_to_f32(load<uint16_t>(p)); }
int byte_at(const std::byte* p, int64_t i) { return std::to_integer<int>(p[i]); }

// 32 consecutive weights of a row as whole numbers. The value of weight i is code * scale + min, with the
// scale of its half when there are two (Q6_K) and the minimum of its half when there are two (Q2_K).
// Sub-scales that keep code within 9 bits are multiplied into the code (Q2_K, Q3_K), so that one product of
// floats serves 32 weights.
struct Group {
  int code[32];
  int scales = 1;
  float scale[2];
  int mins = 0;
  float min[2];
};

int nibble(const std::byte* codes, int i) { return byte_at(codes, i % 16) >> (4 * (i / 16)) & 15; }
int fifth_bit(const std::byte* bits, int i) { return static_cast<int>(load<uint32_t>(bits) >> i & 1u) << 4; }

void decode_q4_0(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  for (int i = 0; i < 32; ++i) out.code[i] = nibble(block + 2, i) - 8;
}

void decode_q4_1(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  out.min[0] = load_f16(block + 2);
  out.mins = 1;
  for (int i = 0; i < 32; ++i) out.code[i] = nibble(block + 4, i);
}

void decode_q5_0(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  for (int i = 0; i < 32; ++i) out.code[i] = (nibble(block + 6, i) | fifth_bit(block + 2, i)) - 16;
}

void decode_q5_1(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  out.min[0] = load_f16(block + 2);
  out.mins = 1;
  for (int i = 0; i < 32; ++i) out.code[i] = nibble(block + 8, i) | fifth_bit(block + 4, i);
}

void decode_q8_0(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  for (int i = 0; i < 32; ++i) out.code[i] = load<int8_t>(block + 2 + i);
}

void decode_iq4_nl(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  for (int i = 0; i < 32; ++i) out.code[i] = kIq4Values[nibble(block + 2, i)];
}

void decode_mxfp4(const std::byte* block, Group& out) {
  out.scale[0] = e8m0_to_f32(load<uint8_t>(block)) * 0.5f;
  for (int i = 0; i < 32; ++i) out.code[i] = kE2m1Doubled[nibble(block + 1, i)];
}

// A zero point is one of 0..15; only its low four bits count.
void decode_i4g32z(const std::byte* block, Group& out) {
  out.scale[0] = load_f16(block);
  for (int i = 0; i < 32; ++i) out.code[i] = nibble(block + 3, i) - (byte_at(block, 2) & 15);
}

// Of the super-blocks of 256, part g of 8. The 2-bit codes lie in four planes of two bits: part g = 4n+j is
// plane j of half n.
void decode_q2_k(const std::byte* block, int g, Group& out) {
  const float d = load_f16(block + 80), d_min = load_f16(block + 82);
  out.scale[0] = d;
  out.mins = 2;
  for (int h = 0; h < 2; ++h) out.min[h] = -(d_min * static_cast<float>(byte_at(block, 2 * g + h) >> 4));
  for (int i = 0; i < 32; ++i) {
    const int q = byte_at(block, 16 + 32 * (g / 4) + i) >> (2 * (g % 4)) & 3;
    out.code[i] = q * (byte_at(block, 2 * g + i / 16) & 15);
  }
}

int q3_scale(const std::byte* scales, int i) {
  const int low = i < 8 ? byte_at(scales, i) & 15 : byte_at(scales, i - 8) >> 4;
  return (low | (byte_at(scales, 8 + i % 4) >> (2 * (i / 4)) & 3) << 4) - 32;
}

void decode_q3_k(const std::byte* block, int g, Group& out) {
  out.scale[0] = load_f16(block + 108);
  for (int i = 0; i < 32; ++i) {
    const int low = byte_at(block, 32 + 32 * (g / 4) + i) >> (2 * (g % 4)) & 3;
    const int q = low - ((byte_at(block, i) >> g & 1) != 0 ? 0 : 4);
    out.code[i] = q * q3_scale(block + 96, 2 * g + i / 16);
  }
}

// Scale and minimum of part g of Q4_K and Q5_K: 6 bits each, in 12 bytes.
void decode_scale_min(const std::byte* block, int g, Group& out) {
  const std::byte* s = block + 4;
  const int scale = g < 4 ? byte_at(s, g) & 63 : (byte_at(s, g + 4) & 15) | (byte_at(s, g - 4) >> 6) << 4;
  const int min = g < 4 ? byte_at(s, g + 4) & 63 : byte_at(s, g + 4) >> 4 | (byte_at(s, g) >> 6) << 4;
  out.scale[0] = load_f16(block) * static_cast<float>(scale);
  out.min[0] = -(load_f16(block + 2) * static_cast<float>(min));
  out.mins = 1;
}

void decode_q4_k(const std::byte* block, int g, Group& out) {
  decode_scale_min(block, g, out);
  for (int i = 0; i < 32; ++i) out.code[i] = byte_at(block, 16 + 32 * (g / 2) + i) >> (4 * (g % 2)) & 15;
}

void decode_q5_k(const std::byte* block, int g, Group& out) {
  decode_scale_min(block, g, out);
  for (int i = 0; i < 32; ++i)
    out.code[i] = (byte_at(block, 48 + 32 * (g / 2) + i) >> (4 * (g % 2)) & 15) |
                  (byte_at(block, 16 + i) >> g & 1) << 4;
}

void decode_q6_k(const std::byte* block, int g, Group& out) {
  const int n = g / 4, t = g % 4;
  out.scales = 2;
  for (int h = 0; h < 2; ++h)
    out.scale[h] = load_f16(block + 208) * static_cast<float>(load<int8_t>(block + 192 + 2 * g + h));
  for (int i = 0; i < 32; ++i) {
    const int low = byte_at(block, 64 * n + 32 * (t % 2) + i) >> (4 * (t / 2)) & 15;
    out.code[i] = (low | (byte_at(block, 128 + 32 * n + i) >> (2 * t) & 3) << 4) - 32;
  }
}

Group decode_group(Scheme scheme, const std::byte* row, int64_t g) {
  const SchemeInfo& info = scheme_info(scheme);
  const std::byte* block = row + g * 32 / info.block_elems * info.block_bytes;
  const int part = static_cast<int>(g % 8);
  Group out;
  switch (scheme) {
    case Scheme::kQ4_0:
    case Scheme::kI4G32:
      decode_q4_0(block, out);
      break;
    case Scheme::kQ4_1:
      decode_q4_1(block, out);
      break;
    case Scheme::kQ5_0:
      decode_q5_0(block, out);
      break;
    case Scheme::kQ5_1:
      decode_q5_1(block, out);
      break;
    case Scheme::kQ8_0:
      decode_q8_0(block, out);
      break;
    case Scheme::kIQ4_NL:
      decode_iq4_nl(block, out);
      break;
    case Scheme::kMXFP4:
      decode_mxfp4(block, out);
      break;
    case Scheme::kI4G32Z:
      decode_i4g32z(block, out);
      break;
    case Scheme::kQ2_K:
      decode_q2_k(block, part, out);
      break;
    case Scheme::kQ3_K:
      decode_q3_k(block, part, out);
      break;
    case Scheme::kQ4_K:
      decode_q4_k(block, part, out);
      break;
    case Scheme::kQ5_K:
      decode_q5_k(block, part, out);
      break;
    case Scheme::kQ6_K:
      decode_q6_k(block, part, out);
      break;
    default:
      break;  // the float schemes and i8c have no groups
  }
  return out;
}

// One element of y for q8g32: per group the product of the codes, scale by scale, then the minimum terms.
float dot_q8g32(const std::vector<Group>& groups, const int8_t* x, const float* x_scale) {
  float acc = 0.0f;
  for (size_t g = 0; g < groups.size(); ++g, x += 32) {
    const Group& w = groups[g];
    for (int h = 0; h < w.scales; ++h) {
      const int count = 32 / w.scales;
      int sum = 0;
      for (int i = h * count; i < (h + 1) * count; ++i) sum += w.code[i] * x[i];
      acc = std::fma(static_cast<float>(sum), w.scale[h] * x_scale[g], acc);
    }
    for (int h = 0; h < w.mins; ++h) {
      const int count = 32 / w.mins;
      int sum = 0;
      for (int i = h * count; i < (h + 1) * count; ++i) sum += x[i];
      acc = std::fma(w.min[h], x_scale[g] * static_cast<float>(sum), acc);
    }
  }
  return acc;
}

// One element of y for i8c x q8t: an exact sum of whole numbers, modulo 2^32 (no wrap below K = 130,000).
float dot_q8t(const std::byte* row, const int8_t* x, float x_scale, int64_t k) {
  uint32_t sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(load<int8_t>(row + 4 + i) * x[i]);
  return std::fma(static_cast<float>(static_cast<int32_t>(sum)), load<float>(row) * x_scale, 0.0f);
}

// One element of y for floats: a chain of fma in each block of kFloatBlock k, the blocks added in order.
template <typename X>
float dot_float(const float* w, int64_t k, X x) {
  float total = 0.0f;
  for (int64_t begin = 0; begin < k; begin += kFloatBlock) {
    float block = 0.0f;
    for (int64_t i = begin; i < std::min(k, begin + kFloatBlock); ++i) block = std::fma(w[i], x(i), block);
    total = total + block;
  }
  return total;
}

// One element of y for small floats under block scales: a chain of fma over the codes of each block.
// Codes apart from their scales, one for each `block` of them.
struct CodedRow {
  int64_t block;
  std::vector<float> codes, scales;
};
template <typename X, typename XScale>
float dot_blocks(const CodedRow& w, X x, XScale x_scale) {
  const auto k = static_cast<int64_t>(w.codes.size());
  float total = 0.0f;
  for (int64_t begin = 0; begin < k; begin += w.block) {
    float chain = 0.0f;
    for (int64_t i = begin; i < std::min(k, begin + w.block); ++i) chain = std::fma(w.codes[i], x(i), chain);
    total = std::fma(chain, w.scales[begin / w.block] * x_scale(begin / kF8Block), total);
  }
  return total;
}

CodedRow decode_blocks(Scheme scheme, const std::byte* row, int64_t k) {
  CodedRow out{scheme == Scheme::kMXFP4 ? 32 : kF8Block, {}, {}};
  if (scheme == Scheme::kMXFP4) {
    for (int64_t b = 0; b < k / 32; ++b, row += 17) {
      out.scales.push_back(e8m0_to_f32(load<uint8_t>(row)));
      for (int i = 0; i < 32; ++i) out.codes.push_back(e2m1_to_f32(static_cast<uint8_t>(nibble(row + 1, i))));
    }
    return out;
  }
  for (int64_t i = 0; i < k; ++i) out.codes.push_back(e4m3_to_f32(load<uint8_t>(row + i)));
  for (int64_t b = 0; b < f8_blocks(k); ++b)
    out.scales.push_back(load<float>(row + f8_code_bytes(k) + 4 * b));
  return out;
}

void store(const LinearArgs& args, int64_t t, int64_t row, float value) {
  if (args.bias != nullptr) value = value + args.bias[row];
  float& y = args.y[t * args.ldy + row];
  y = args.accumulate ? y + value : value;
}

// Calls f(index, canonical bytes) for the rows of the tiles asked for.
template <typename F>
void each_row(Scheme scheme, const LinearArgs& args, F f) {
  const int64_t stride = row_bytes(scheme, args.k), tile_bytes = packed_tile_bytes(scheme, args.k);
  std::vector<std::byte> rows(static_cast<size_t>(stride * kTileRows));
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t first = tile * kTileRows, count = std::min(kTileRows, args.n - first);
    unpack_tile(scheme, args.weight + tile * tile_bytes, count, args.k, rows.data(), stride);
    for (int64_t r = 0; r < count; ++r) f(first + r, rows.data() + r * stride);
  }
}

void run_q8g32(Scheme scheme, const LinearArgs& args) {
  const Q8View x = q8g32_view(const_cast<std::byte*>(args.x), args.t, args.k);
  std::vector<Group> groups(static_cast<size_t>(args.k / 32));
  each_row(scheme, args, [&](int64_t n, const std::byte* row) {
    for (size_t g = 0; g < groups.size(); ++g) groups[g] = decode_group(scheme, row, static_cast<int64_t>(g));
    for (int64_t t = 0; t < args.t; ++t)
      store(args, t, n, dot_q8g32(groups, x.codes + t * x.k_padded, x.scales + t * x.groups));
  });
}

void run_q8t(Scheme scheme, const LinearArgs& args) {
  const Q8View x = q8t_view(const_cast<std::byte*>(args.x), args.t, args.k);
  each_row(scheme, args, [&](int64_t n, const std::byte* row) {
    for (int64_t t = 0; t < args.t; ++t)
      store(args, t, n, dot_q8t(row, x.codes + t * x.k_padded, x.scales[t], args.k));
  });
}

void run_float(Scheme scheme, Activation activation, const LinearArgs& args) {
  std::vector<float> w(static_cast<size_t>(args.k));
  each_row(scheme, args, [&](int64_t n, const std::byte* row) {
    scheme_info(scheme).decode_row(row, args.k, w.data());
    for (int64_t t = 0; t < args.t; ++t) {
      if (activation == Activation::kF32) {
        const float* x = reinterpret_cast<const float*>(args.x) + t * args.k;
        store(args, t, n, dot_float(w.data(), args.k, [x](int64_t i) { return x[i]; }));
      } else {
        const uint16_t* x = reinterpret_cast<const uint16_t*>(args.x) + t * bf16_row_stride(args.k);
        store(args, t, n, dot_float(w.data(), args.k, [x](int64_t i) { return bf16_to_f32(x[i]); }));
      }
    }
  });
}

void run_blocks(Scheme scheme, Activation activation, const LinearArgs& args) {
  const auto* f32 = reinterpret_cast<const float*>(args.x);
  const auto* bf16 = reinterpret_cast<const uint16_t*>(args.x);
  const auto one = [](int64_t) { return 1.0f; };
  each_row(scheme, args, [&](int64_t n, const std::byte* row) {
    const CodedRow w = decode_blocks(scheme, row, args.k);
    for (int64_t t = 0; t < args.t; ++t) {
      float y;
      if (activation == Activation::kF32) {
        y = dot_blocks(
            w, [&](int64_t i) { return f32[t * args.k + i]; }, one);
      } else if (activation == Activation::kBF16) {
        const uint16_t* x = bf16 + t * bf16_row_stride(args.k);
        y = dot_blocks(
            w, [x](int64_t i) { return bf16_to_f32(x[i]); }, one);
      } else {
        const F8View x = f8g128_view(const_cast<std::byte*>(args.x), args.t, args.k);
        const uint8_t* codes = x.codes + t * x.k_padded;
        const float* scales = x.scales + t * x.groups;
        y = dot_blocks(
            w, [codes](int64_t i) { return e4m3_to_f32(codes[i]); },
            [scales](int64_t b) { return scales[b]; });
      }
      store(args, t, n, y);
    }
  });
}

}  // namespace

template <Scheme kScheme, Activation kActivation>
void scalar(const LinearArgs& args) {
  if constexpr (kActivation == Activation::kQ8G32)
    run_q8g32(kScheme, args);
  else if constexpr (kActivation == Activation::kQ8T)
    run_q8t(kScheme, args);
  else if constexpr (kScheme == Scheme::kF8B128 || kScheme == Scheme::kMXFP4)
    run_blocks(kScheme, kActivation, args);
  else
    run_float(kScheme, kActivation, args);
}

#define FETTLE_SCALAR(scheme, activation, name) \
  template void scalar<Scheme::scheme, Activation::activation>(const LinearArgs& args);
#include "kernels/linear/kernels.inc"

}  // namespace fettle::linear
