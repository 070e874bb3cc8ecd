// Rounding a matrix to a scheme. Each scheme's file minimises the weighted squared error sum_k importance[k]
// * (w - w^)^2 of a row by a search over scales (not plain absmax); importance is the mean square of the
// input columns where calibration gave it, else 1. Deterministic: a row's bytes depend only on the row and
// the importance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "tensor/scheme.h"

namespace fettle {

enum class EncodeMethod : uint8_t {
  kAbsMax,  // "absmax": the plain rule, kept for comparison
  kSearch,  // "search": error-minimising
};
std::string_view encode_method_name(EncodeMethod method);
Result<EncodeMethod> parse_encode_method(std::string_view name);

bool can_encode(Scheme scheme);

// row[k] -> out[row_bytes(scheme, k)]. importance: null or [k], finite and >= 0. Non-finite weights are an
// error naming the column.
Status encode_row(Scheme scheme, EncodeMethod method, const float* row, const float* importance, int64_t k,
                  std::byte* out);

// Half the largest step between neighbouring codes of the row: |w - w^| <= bound for every w inside the coded
// range.
float error_bound(Scheme scheme, const std::byte* row, int64_t k);

}  // namespace fettle
