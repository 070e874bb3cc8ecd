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
};
inline constexpr int kSchemeCount = static_cast<int>(Scheme::kI4G32Z) + 1;

// The row of one scheme in the table of schemes. block_elems == 0: the whole row is one block (kI8C).
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
