// The row functions over one instruction set's Steps. quantise.cc includes this once in the namespace of
// each, within its target region, so that the steps are inlined.

inline void q8g32_row(const float* x, int64_t k, std::byte* buffer, int64_t t, int64_t r) {
  const Q8View view = q8g32_view(buffer, t, k);
  int8_t* codes = view.codes + r * view.k_padded;
  for (int64_t g = 0; g < view.groups; ++g) {
    const int64_t count = k - g * kGroup < 0 ? 0 : k - g * kGroup < kGroup ? k - g * kGroup : kGroup;
    const Scale scale = scale_of(Steps::maximum(x + g * kGroup, count));
    view.scales[r * view.groups + g] = scale.scale;
    view.sums[r * view.groups + g] = Steps::round(x + g * kGroup, count, scale.inverse, codes + g * kGroup);
  }
  std::memset(codes + k, 0, static_cast<size_t>(view.k_padded - k));
}

inline void q8t_row(const float* x, int64_t k, std::byte* buffer, int64_t t, int64_t r) {
  const Q8View view = q8t_view(buffer, t, k);
  int8_t* codes = view.codes + r * view.k_padded;
  const Scale scale = scale_of(Steps::maximum(x, k));
  view.scales[r] = scale.scale;
  view.sums[r] = Steps::round(x, k, scale.inverse, codes);
  std::memset(codes + k, 0, static_cast<size_t>(view.k_padded - k));
}

template <ScaleFormat kFormat>
inline void f8g128_row(const float* x, int64_t k, std::byte* buffer, int64_t t, int64_t r) {
  const F8View view = f8g128_view(buffer, t, k);
  uint8_t* codes = view.codes + r * view.k_padded;
  for (int64_t g = 0; g < view.groups; ++g) {
    const int64_t begin = g * kF8Block, count = k - begin < kF8Block ? k - begin : kF8Block;
    const float scale = e4m3_group_scale(Steps::maximum(x + begin, count), kFormat);
    view.scales[r * view.groups + g] = scale;
    for (int64_t i = begin; i < begin + count; ++i) codes[i] = e4m3_quotient(x[i], scale);
  }
  std::memset(codes + k, 0, static_cast<size_t>(view.k_padded - k));
}

inline void bf16_row(const float* x, int64_t k, std::byte* buffer, int64_t /*t*/, int64_t r) {
  const int64_t stride = bf16_row_stride(k);
  uint16_t* out = reinterpret_cast<uint16_t*>(buffer) + r * stride;
  Steps::to_bf16(x, k, out);
  std::memset(out + k, 0, static_cast<size_t>(stride - k) * sizeof(uint16_t));
}

inline QuantiseRowFn pick(Activation activation) {
  switch (activation) {
    case Activation::kF32:
      return f32_row;
    case Activation::kBF16:
      return bf16_row;
    case Activation::kQ8G32:
      return q8g32_row;
    case Activation::kQ8T:
      return q8t_row;
    case Activation::kF8G128:
      return f8g128_row<ScaleFormat::kF32>;
    case Activation::kF8G128Ue8m0:
      return f8g128_row<ScaleFormat::kUe8m0>;
  }
  return nullptr;
}
