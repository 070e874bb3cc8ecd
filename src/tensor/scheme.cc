#include "tensor/scheme.h"

#include <iterator>

#include "base/check.h"
#include "tensor/block_decode.h"

namespace fettle {

namespace {

constexpr SchemeInfo kSchemes[] = {
    {Scheme::kF32, "f32", 1, 4, 32.0, decode::f32},
    {Scheme::kF16, "f16", 1, 2, 16.0, decode::f16},
    {Scheme::kBF16, "bf16", 1, 2, 16.0, decode::bf16},
    {Scheme::kQ4_0, "q4_0", 32, 18, 4.5, decode::q4_0},
    {Scheme::kQ4_1, "q4_1", 32, 20, 5.0, decode::q4_1},
    {Scheme::kQ5_0, "q5_0", 32, 22, 5.5, decode::q5_0},
    {Scheme::kQ5_1, "q5_1", 32, 24, 6.0, decode::q5_1},
    {Scheme::kQ8_0, "q8_0", 32, 34, 8.5, decode::q8_0},
    {Scheme::kQ2_K, "q2_k", 256, 84, 2.625, decode::q2_k},
    {Scheme::kQ3_K, "q3_k", 256, 110, 3.4375, decode::q3_k},
    {Scheme::kQ4_K, "q4_k", 256, 144, 4.5, decode::q4_k},
    {Scheme::kQ5_K, "q5_k", 256, 176, 5.5, decode::q5_k},
    {Scheme::kQ6_K, "q6_k", 256, 210, 6.5625, decode::q6_k},
    {Scheme::kIQ4_NL, "iq4_nl", 32, 18, 4.5, decode::iq4_nl},
    {Scheme::kMXFP4, "mxfp4", 32, 17, 4.25, decode::mxfp4},
    {Scheme::kI8C, "i8c", 0, 0, 8.0, decode::i8c},
    {Scheme::kI4G32, "i4g32", 32, 18, 4.5, decode::i4g32},
    {Scheme::kI4G32Z, "i4g32z", 32, 19, 4.75, decode::i4g32z},
    {Scheme::kF8B128, "f8b128", 0, 0, 8.25, decode::f8b128},
};

constexpr bool well_formed() {
  for (size_t i = 0; i < std::size(kSchemes); ++i) {
    const SchemeInfo& s = kSchemes[i];
    if (s.scheme != static_cast<Scheme>(i)) return false;
    if (s.block_elems > 0 && s.bits_per_weight != 8.0 * s.block_bytes / s.block_elems) return false;
  }
  return std::size(kSchemes) == kSchemeCount;
}
static_assert(well_formed(), "the table follows the enum, and its sizes agree");

}  // namespace

const SchemeInfo& scheme_info(Scheme scheme) {
  const size_t index = static_cast<size_t>(scheme);
  CHECK(index < std::size(kSchemes), "scheme {}", index);
  return kSchemes[index];
}

std::span<const SchemeInfo> all_schemes() { return kSchemes; }

std::optional<Scheme> parse_scheme(std::string_view name) {
  for (const SchemeInfo& info : kSchemes)
    if (info.name == name) return info.scheme;
  return std::nullopt;
}

bool row_fits(Scheme scheme, int64_t k) {
  const int block = scheme_info(scheme).block_elems;
  return k > 0 && (block == 0 || k % block == 0);
}

int64_t row_bytes(Scheme scheme, int64_t k) {
  const SchemeInfo& info = scheme_info(scheme);
  if (scheme == Scheme::kF8B128) return f8_code_bytes(k) + 4 * f8_blocks(k);
  if (scheme == Scheme::kI8C) return 4 + (k + 3) / 4 * 4;
  return k / info.block_elems * info.block_bytes;
}

}  // namespace fettle
