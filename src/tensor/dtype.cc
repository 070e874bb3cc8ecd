#include "tensor/dtype.h"

#include <array>

#include "base/check.h"

namespace fettle {

namespace {

struct DTypeInfo {
  DType dtype;
  int bits;
  std::string_view name;
};

constexpr DTypeInfo kDTypes[] = {
    {DType::kBool, 8, "BOOL"},
    {DType::kU8, 8, "U8"},
    {DType::kI8, 8, "I8"},
    {DType::kU16, 16, "U16"},
    {DType::kI16, 16, "I16"},
    {DType::kU32, 32, "U32"},
    {DType::kI32, 32, "I32"},
    {DType::kU64, 64, "U64"},
    {DType::kI64, 64, "I64"},
    {DType::kF16, 16, "F16"},
    {DType::kBF16, 16, "BF16"},
    {DType::kF32, 32, "F32"},
    {DType::kF64, 64, "F64"},
    {DType::kC64, 64, "C64"},
    {DType::kF8E4M3, 8, "F8_E4M3"},
    {DType::kF8E5M2, 8, "F8_E5M2"},
    {DType::kF8E8M0, 8, "F8_E8M0"},
    {DType::kF8E4M3Fnuz, 8, "F8_E4M3FNUZ"},
    {DType::kF8E5M2Fnuz, 8, "F8_E5M2FNUZ"},
    {DType::kF6E2M3, 6, "F6_E2M3"},
    {DType::kF6E3M2, 6, "F6_E3M2"},
    {DType::kF4, 4, "F4"},
};

constexpr bool in_enum_order() {
  for (size_t i = 0; i < std::size(kDTypes); ++i)
    if (kDTypes[i].dtype != static_cast<DType>(i)) return false;
  return true;
}
static_assert(in_enum_order() && std::size(kDTypes) == static_cast<size_t>(DType::kF4) + 1);

const DTypeInfo& info(DType dtype) {
  const size_t index = static_cast<size_t>(dtype);
  CHECK(index < std::size(kDTypes), "dtype {}", index);
  return kDTypes[index];
}

}  // namespace

int dtype_bits(DType dtype) { return info(dtype).bits; }

std::string_view dtype_name(DType dtype) { return info(dtype).name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeInfo& entry : kDTypes)
    if (entry.name == name) return entry.dtype;
  return std::nullopt;
}

std::string shape_text(const Shape& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::optional<int64_t> element_count(const Shape& shape) {
  int64_t count = 1;
  bool empty = false;
  for (const int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    empty |= dim == 0;
  }
  if (empty) return 0;
  for (const int64_t dim : shape)
    if (__builtin_mul_overflow(count, dim, &count)) return std::nullopt;
  return count;
}

}  // namespace fettle
