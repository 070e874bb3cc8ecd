// The exact cache: see body.h for what a form is.
#pragma once

namespace fettle {
namespace {

template <int vectors>
struct F32Form {
  static constexpr int kPerWord = 1, kRowFloats = 1, kVectors = vectors;
  using Words = F32x16;
  static Words load(const float* p) { return fettle::load(p); }
  static F32x16 dot(F32x16 sum, Words words, const float* x) { return fma(words, broadcast(*x), sum); }
  static Words first_only(Words words) { return words; }
  static F32x16 put(F32x16 sum, F32x16 a, F32x16 b, float* x) {
    store(x, a);
    store(x + kLanes, b);
    return add(sum, add(a, b));
  }
};

}  // namespace
}  // namespace fettle
