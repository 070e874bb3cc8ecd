// Floating-point schemes: rounding to nearest even is already the best code, so there is nothing to search.
#include <cmath>
#include <cstring>

#include "quant/encoder.h"
#include "tensor/numbers.h"

namespace fettle::quant {

namespace {

template <typename Round, typename Value>
Status encode_16_bit(Scheme scheme, const EncodeInput& input, std::byte* out, Round round, Value value) {
  for (int64_t i = 0; i < input.columns; ++i) {
    const uint16_t code = round(input.weights[i]);
    if (std::isinf(value(code)))
      return unsupported("the weight {} in column {} is too large for {}; use f32 for this matrix",
                         input.weights[i], i, scheme_name(scheme));
    std::memcpy(out + 2 * i, &code, sizeof code);
  }
  return {};
}

// Half the gap between the largest code of the row and its neighbour; `digits` counts the leading one,
// `lowest` is the exponent of the smallest normal number.
float half_gap(Scheme scheme, const std::byte* row, int64_t columns, int digits, int lowest) {
  float largest = 0;
  for (int64_t i = 0; i < columns; ++i) {
    float value = 0;
    scheme_info(scheme).decode_row(row + 2 * i, 1, &value);
    largest = std::max(largest, std::fabs(value));
  }
  const int exponent = largest > 0 ? std::max(std::ilogb(largest), lowest) : lowest;
  return std::ldexp(1.0f, exponent - digits);
}

}  // namespace

Status encode_f32(const EncodeInput& input, std::byte* out) {
  std::memcpy(out, input.weights, static_cast<size_t>(input.columns) * sizeof(float));
  return {};
}
Status encode_f16(const EncodeInput& input, std::byte* out) {
  return encode_16_bit(Scheme::kF16, input, out, f32_to_f16, f16_to_f32);
}
Status encode_bf16(const EncodeInput& input, std::byte* out) {
  return encode_16_bit(Scheme::kBF16, input, out, f32_to_bf16, bf16_to_f32);
}

// Every weight is a code.
float half_step_f32(const std::byte*, int64_t) { return 0; }
float half_step_f16(const std::byte* row, int64_t columns) {
  return half_gap(Scheme::kF16, row, columns, 11, -14);
}
float half_step_bf16(const std::byte* row, int64_t columns) {
  return half_gap(Scheme::kBF16, row, columns, 8, -126);
}

}  // namespace fettle::quant
