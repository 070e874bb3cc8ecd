// The bf16 cache for instruction sets without bf16 products: a word's two numbers are unpacked by shift and
// mask, rows are kept as fp32 numbers that were rounded to bf16. Needs the ISA's words_*.h.
#pragma once

namespace fettle {
namespace {

template <int vectors>
struct UnpackedBf16Form {
  static constexpr int kPerWord = 2, kRowFloats = 2, kVectors = vectors;
  using Words = F32x16;
  static Words load(const float* p) { return fettle::load(p); }
  static F32x16 dot(F32x16 sum, Words words, const float* x) {
    sum = fma(odd_numbers(words), broadcast(x[1]), sum);
    return fma(even_numbers(words), broadcast(x[0]), sum);
  }
  static Words first_only(Words words) { return without_odd(words); }
  static F32x16 put(F32x16 sum, F32x16 a, F32x16 b, float* x) {
    a = round_bf16(a);
    b = round_bf16(b);
    store(x, a);
    store(x + kLanes, b);
    return add(sum, add(a, b));
  }
};

}  // namespace
}  // namespace fettle
