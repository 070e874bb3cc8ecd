#include "checkpoint/whole_numbers.h"

#include <cstring>

namespace fettle {

namespace {

template <typename T>
Result<std::vector<float>> convert(const StoredTensor& tensor, const std::string& place) {
  constexpr T kLargest = T{1} << 24;
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, tensor.data + i * sizeof(T), sizeof(T));
    if (value > kLargest || value < -kLargest)
      return bad_input("{}: holds {} at {}; expected whole numbers of at most {}", place, value, i, kLargest);
    out[i] = static_cast<float>(value);
  }
  return out;
}

}  // namespace

bool holds_whole_numbers(const StoredTensor& tensor) {
  return !tensor.scheme && (tensor.dtype == DType::kI32 || tensor.dtype == DType::kI64);
}

Result<MatrixView> WholeNumbers::matrix(const StoredTensor& tensor, const std::string& place) {
  if (tensor.shape.empty() || tensor.shape.size() > 2 || tensor.elements() == 0)
    return unsupported("{}: shape {}; expected one or two dimensions, none of them zero", place,
                       shape_text(tensor.shape));
  const std::lock_guard lock(mutex_);
  auto& values = converted_[tensor.name];
  if (!values) {
    TRY(auto fresh,
        tensor.dtype == DType::kI64 ? convert<int64_t>(tensor, place) : convert<int32_t>(tensor, place));
    values = std::make_shared<const std::vector<float>>(std::move(fresh));
  }
  const int64_t cols = tensor.shape.back();
  return MatrixView{.scheme = Scheme::kF32,
                    .rows = tensor.elements() / cols,
                    .cols = cols,
                    .data = reinterpret_cast<const std::byte*>(values->data()),
                    .owner = values};
}

}  // namespace fettle
