// Scheme: how the numbers of a weight matrix [N,K] are coded, row by row. The `row` layout described here is
// canonical: rows one after the other, each of row_bytes(K) bytes. Kernels' own layouts are bijections of it
// (kernels/linear/layout.h). Block formats of GGUF keep ggml's bytes exactly; fettle's own are defined below.
// All little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace fettle {

enum class Scheme : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kMXFP4,
  kI8C,  // "i8c": int8, one fp32 scale a row.      row = f32 scale | i8 code[K] | zero bytes up to a multiple
         // of 4
  kI4G32,   // "i4g32": int4 symmetric, groups of 32.  block (18 bytes) as Q4_0: f16 d | 16 bytes; value
            // (q-8)*d
  kI4G32Z,  // "i4g32z": int4 with zero point.         block (19 bytes): f16 d | u8 z (0..15) | 16 bytes;
            // value (q-z)*d
  kF8B128,  // "f8b128": e4m3 under fp32 scales, one for 128 columns, the last for what is left of K.
            // row = e4m3 code[K] | zero bytes up to a multiple of 4 | f32 scale[ceil(K/128)];
            // value code*scale. Checkpoints give a scale to 128 x 128 weights: here each of the rows has it.
};
inline constexpr int kSchemeCount = static_cast<int>(Scheme::kF8B128) + 1;
inline constexpr int64_t kF8Block = 128;
inline constexpr int64_t f8_blocks(int64_t k) { return (k + kF8Block - 1) / kF8Block; }
inline constexpr int64_t f8_code_bytes(int64_t k) { return (k + 3) / 4 * 4; }  // of a row; its scales follow

// The row of one scheme in the table of schemes. block_elems == 0: the row as a whole is laid out (kI8C,
// kF8B128).
struct SchemeInfo {
  Scheme scheme;
  std::string_view name;   // "q4_1", "bf16", "i8c": unique, lower case
  int block_elems;         // elements a block
  int block_bytes;         // bytes a block
  double bits_per_weight;  // for large K
  // row[0, row_bytes(k)) -> out[0, k). k must satisfy row_fits().
  void (*decode_row)(const std::byte* row, int64_t k, float* out);
};

const SchemeInfo& scheme_info(Scheme scheme);
std::span<const SchemeInfo> all_schemes();
std::optional<Scheme> parse_scheme(std::string_view name);
inline std::string_view scheme_name(Scheme scheme) { return scheme_info(scheme).name; }

// True when rows of K elements can be coded: K > 0 and K a multiple of block_elems.
bool row_fits(Scheme scheme, int64_t k);
int64_t row_bytes(Scheme scheme, int64_t k);
inline bool is_float_scheme(Scheme s) { return s == Scheme::kF32 || s == Scheme::kF16 || s == Scheme::kBF16; }

}  // namespace fettle
