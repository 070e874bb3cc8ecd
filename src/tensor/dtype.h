// DType: how one element of a plain tensor is stored in a file (safetensors names). Schemes (scheme.h) say
// how weights are coded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF16,
  kBF16,
  kF32,
  kF64,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF6E2M3,
  kF6E3M2,
  kF4,
};

int dtype_bits(DType dtype);
std::string_view dtype_name(DType dtype);  // the safetensors spelling: "BF16", "F8_E4M3", ...
std::optional<DType> parse_dtype(std::string_view name);

using Shape = std::vector<int64_t>;          // row-major, slowest first
std::string shape_text(const Shape& shape);  // "[49152, 576]"

// Product of the dimensions; nullopt when one is negative or the product does not fit.
std::optional<int64_t> element_count(const Shape& shape);

}  // namespace fettle
