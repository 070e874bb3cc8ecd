#include "quant/encode.h"

#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/elementwise/elementwise.h"
#include "quant/encoder.h"

namespace fettle {

namespace {

using quant::Encoder;

constexpr Encoder kEncoders[] = {
#define FETTLE_ENCODER(scheme, name) {scheme, quant::encode_##name, quant::half_step_##name},
#include "quant/list.inc"
#undef FETTLE_ENCODER
};

const Encoder* find_encoder(Scheme scheme) {
  for (const Encoder& encoder : kEncoders)
    if (encoder.scheme == scheme) return &encoder;
  return nullptr;
}

// Any instruction set gives the same bits.
float magnitude_of(const float* values, int64_t count) {
  static const ElementwiseKernels& kernels = find_elementwise_kernels(detect_isa());
  return kernels.magnitude(values, count);
}

// Column of the first value that is not finite, or -1.
int64_t first_non_finite(const float* values, int64_t count) {
  if (std::isfinite(magnitude_of(values, count))) return -1;
  int64_t i = 0;
  while (std::isfinite(values[i])) ++i;
  return i;
}

Status check_importance(const float* importance, int64_t k) {
  int64_t bad = first_non_finite(importance, k);
  bool negative = false;
  for (int64_t i = 0; i < k; ++i) negative |= importance[i] < 0;
  if (bad < 0 && !negative) return {};
  if (bad < 0)
    for (bad = 0; !(importance[bad] < 0);) ++bad;
  return bad_input(
      "importance of column {} is {}; expected a finite number that is not negative: collect the calibration "
      "again",
      bad, importance[bad]);
}

}  // namespace

std::string_view encode_method_name(EncodeMethod method) {
  return method == EncodeMethod::kAbsMax ? "absmax" : "search";
}

Result<EncodeMethod> parse_encode_method(std::string_view name) {
  for (const EncodeMethod method : {EncodeMethod::kAbsMax, EncodeMethod::kSearch})
    if (name == encode_method_name(method)) return method;
  return bad_input("unknown encoding method '{}'; expected 'absmax' or 'search'", name);
}

bool can_encode(Scheme scheme) { return find_encoder(scheme) != nullptr; }

Status encode_row(Scheme scheme, EncodeMethod method, const float* row, const float* importance, int64_t k,
                  std::byte* out) {
  const Encoder* encoder = find_encoder(scheme);
  if (!encoder)
    return unsupported("no encoder for scheme {}; choose one of those that can be written, e.g. q4_1 or i8c",
                       scheme_name(scheme));
  if (!row_fits(scheme, k))
    return bad_input("a row of {} columns cannot be coded as {}; expected a multiple of {}", k,
                     scheme_name(scheme), scheme_info(scheme).block_elems);
  const float magnitude = magnitude_of(row, k);
  if (!std::isfinite(magnitude)) {
    const int64_t column = first_non_finite(row, k);
    return bad_input(
        "the weight in column {} is {}; expected a finite number: the source is damaged or was saved in too "
        "narrow a format",
        column, row[column]);
  }
  if (importance) TRY_STATUS(check_importance(importance, k));
  return encoder->encode({row, importance, k, method, magnitude}, out);
}

float error_bound(Scheme scheme, const std::byte* row, int64_t k) {
  const Encoder* encoder = find_encoder(scheme);
  CHECK(encoder && row_fits(scheme, k), "scheme {} and {} columns", scheme_name(scheme), k);
  const float half_step = encoder->half_step(row, k);
  if (is_float_scheme(scheme)) return half_step;
  // Codes are chosen, and values formed, in fp32: a few of its roundings come on top.
  std::vector<float> values(static_cast<size_t>(k));
  scheme_info(scheme).decode_row(row, k, values.data());
  float largest = 0;
  for (const float v : values) largest = std::max(largest, std::fabs(v));
  return half_step + largest * 0x1p-21f;
}

}  // namespace fettle
