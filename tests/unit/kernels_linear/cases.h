// Random and extreme matrices for the tests of the linear kernels.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "kernels/linear/linear.h"
#include "tensor/numbers.h"

namespace fettle::cases {

using Rng = std::mt19937;

// 64-byte aligned bytes, as the executor holds weights and activations.
class Bytes {
 public:
  explicit Bytes(int64_t size) : storage_(static_cast<size_t>(size / 64 + 1)), size_(size) {}
  std::byte* data() { return reinterpret_cast<std::byte*>(storage_.data()); }
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(storage_.data()); }
  int64_t size() const { return size_; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> storage_;
  int64_t size_;
};

inline void put_f16(std::byte* p, float value) {
  const uint16_t code = f32_to_f16(value);
  std::memcpy(p, &code, sizeof code);
}

// Where the f16 numbers of a block are.
inline std::vector<int> f16_offsets(Scheme scheme) {
  switch (scheme) {
    case Scheme::kQ4_0:
    case Scheme::kQ5_0:
    case Scheme::kQ8_0:
    case Scheme::kIQ4_NL:
    case Scheme::kI4G32:
    case Scheme::kI4G32Z:
      return {0};
    case Scheme::kQ4_1:
    case Scheme::kQ5_1:
    case Scheme::kQ4_K:
    case Scheme::kQ5_K:
      return {0, 2};
    case Scheme::kQ2_K:
      return {80, 82};
    case Scheme::kQ3_K:
      return {108};
    case Scheme::kQ6_K:
      return {208};
    default:
      return {};
  }
}

// Canonical rows whose codes are any bytes (or all the byte `code`, if >= 0) and whose scales are ordinary
// numbers.
inline Bytes weights(Scheme scheme, int64_t n, int64_t k, Rng& rng, int code = -1) {
  const int64_t stride = row_bytes(scheme, k);
  Bytes rows(n * stride);
  std::uniform_real_distribution<float> unit(-1.0f, 1.0f);
  std::uniform_int_distribution<int> byte(0, 255), e8m0(118, 130);
  for (int64_t i = 0; i < n * stride; ++i)
    rows.data()[i] = static_cast<std::byte>(code >= 0 ? code : byte(rng));
  const SchemeInfo& info = scheme_info(scheme);
  for (int64_t r = 0; r < n; ++r) {
    std::byte* row = rows.data() + r * stride;
    if (scheme == Scheme::kI8C) {
      const float scale = unit(rng) * 0.01f;
      std::memcpy(row, &scale, sizeof scale);
      std::memset(row + 4 + k, 0, static_cast<size_t>(stride - 4 - k));
    }
    if (scheme == Scheme::kF8B128) {
      std::memset(row + k, 0, static_cast<size_t>(f8_code_bytes(k) - k));
      for (int64_t i = 0; code < 0 && i < k; ++i)  // NaN is a case of its own
        if ((row[i] & std::byte{0x7f}) == std::byte{0x7f}) row[i] = std::byte{0x7e};
      for (int64_t b = 0; b < f8_blocks(k); ++b) {
        const float scale = unit(rng) / 448.0f;
        std::memcpy(row + f8_code_bytes(k) + 4 * b, &scale, sizeof scale);
      }
    }
    for (int64_t i = 0; is_float_scheme(scheme) && i < k; ++i) {
      const float value = unit(rng);
      const uint16_t bf16 = f32_to_bf16(value);
      if (scheme == Scheme::kF32) std::memcpy(row + 4 * i, &value, sizeof value);
      if (scheme == Scheme::kF16) put_f16(row + 2 * i, value);
      if (scheme == Scheme::kBF16) std::memcpy(row + 2 * i, &bf16, sizeof bf16);
    }
    if (info.block_elems < 32) continue;
    for (std::byte* block = row; block < row + stride; block += info.block_bytes) {
      for (int offset : f16_offsets(scheme)) put_f16(block + offset, unit(rng) * 0.05f);
      if (scheme == Scheme::kMXFP4) block[0] = static_cast<std::byte>(e8m0(rng));
      if (scheme == Scheme::kI4G32Z) block[2] &= std::byte{15};
    }
  }
  return rows;
}

inline Bytes pack(Scheme scheme, const Bytes& rows, int64_t n, int64_t k) {
  const int64_t stride = row_bytes(scheme, k);
  Bytes packed(packed_bytes(scheme, n, k));
  for (int64_t tile = 0; tile < tile_count(n); ++tile)
    pack_tile(scheme, rows.data() + tile * kTileRows * stride, stride,
              std::min(kTileRows, n - tile * kTileRows), k,
              packed.data() + tile * packed_tile_bytes(scheme, k));
  return packed;
}

inline std::vector<float> floats(int64_t count, Rng& rng, float size = 3.0f) {
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& v : out) v = normal(rng);
  return out;
}

inline Bytes activations(Activation form, const std::vector<float>& x, int64_t t, int64_t k,
                         Isa isa = Isa::kScalar) {
  Bytes out(activation_bytes(form, t, k));
  const QuantiseRowFn quantise = find_quantise_row(form, isa);
  for (int64_t r = 0; r < t; ++r) quantise(x.data() + r * k, k, out.data(), t, r);
  return out;
}

}  // namespace fettle::cases
