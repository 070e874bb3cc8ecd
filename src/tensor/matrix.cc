#include "tensor/matrix.h"

#include <cstring>

#include "base/check.h"
#include "tensor/numbers.h"

namespace fettle {

namespace {

float scale_at(const ScaleView& scales, int64_t index) {
  const std::byte* p = scales.data + index * dtype_bits(scales.dtype) / 8;
  if (scales.dtype == DType::kF8E8M0) return e8m0_to_f32(std::to_integer<uint8_t>(*p));
  if (scales.dtype == DType::kBF16) {
    uint16_t code;
    std::memcpy(&code, p, sizeof code);
    return bf16_to_f32(code);
  }
  CHECK(scales.dtype == DType::kF32, "{}", dtype_name(scales.dtype));
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

void gather_f8(const MatrixView& m, int64_t r, std::byte* out) {
  std::memcpy(out, m.data + r * m.code_stride(), static_cast<size_t>(m.cols));
  std::memset(out + m.cols, 0, static_cast<size_t>(f8_code_bytes(m.cols) - m.cols));
  out += f8_code_bytes(m.cols);
  for (int64_t b = 0; b < f8_blocks(m.cols); ++b, out += sizeof(float)) {
    const float scale = scale_at(*m.scales, r / kF8Block * m.scales->cols + b);
    std::memcpy(out, &scale, sizeof scale);
  }
}

// 16 bytes of neighbours become 16 bytes of elements 16 apart.
void gather_fp4(const MatrixView& m, int64_t r, std::byte* out) {
  const std::byte* codes = m.data + r * m.code_stride();
  const std::byte* exponents = m.scales->data + r * m.scales->cols;
  const auto nibble = [&codes](int e) { return codes[e / 2] >> (e % 2 * 4) & std::byte{15}; };
  for (int64_t b = 0; b < m.cols / 32; ++b, codes += 16) {
    *out++ = exponents[b];
    for (int e = 0; e < 16; ++e) *out++ = nibble(e) | nibble(e + 16) << 4;
  }
}

}  // namespace

Shape scales_shape(Scheme scheme, int64_t rows, int64_t cols) {
  CHECK(scheme == Scheme::kF8B128 || scheme == Scheme::kMXFP4, "{}", scheme_name(scheme));
  if (scheme == Scheme::kMXFP4) return {rows, cols / 32};
  return {f8_blocks(rows), f8_blocks(cols)};
}

void MatrixView::copy_rows(int64_t begin, int64_t count, std::byte* out) const {
  const int64_t stride = row_stride();
  if (!scales) {
    std::memcpy(out, data + begin * stride, static_cast<size_t>(count * stride));
    return;
  }
  const auto gather = scheme == Scheme::kMXFP4 ? gather_fp4 : gather_f8;
  for (int64_t r = begin; r < begin + count; ++r, out += stride) gather(*this, r, out);
}

void MatrixView::decode_row(int64_t r, float* out) const {
  if (!scales) return scheme_info(scheme).decode_row(data + r * row_stride(), cols, out);
  std::vector<std::byte> row(static_cast<size_t>(row_stride()));
  copy_rows(r, 1, row.data());
  scheme_info(scheme).decode_row(row.data(), cols, out);
}

std::vector<float> MatrixView::decode() const {
  std::vector<float> out(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) decode_row(r, out.data() + r * cols);
  return out;
}

}  // namespace fettle
