// Sixteen fp32 lanes, so that a kernel is written once and compiled for each instruction set. An ISA's .cc
// includes, between target_begin.h and target_end.h, one of vec16_scalar.h, vec16_avx2.h, vec16_avx512.h,
// then this, then the generic source. All of it lies in an unnamed namespace: no wide instruction ends up in
// a function that another file could link to. Every operation is one correctly rounded IEEE operation a lane,
// in a fixed order, so all instruction sets give equal bits. max, min (a, b): b where either is NaN, as x86
// defines it.
#pragma once

namespace fettle {
namespace {

// e^x within 1.1 ulp, denormal results included; exp(0) = 1 and exp(-inf) = 0 exactly; above 88.72 the
// largest results, never infinity; NaN stays NaN. x = n ln2 + r, |r| <= ln2/2; a polynomial of degree 6 for
// e^r (relative error 2^-28.2, Remez).
inline F32x16 exp_approx(F32x16 x) {
  const F32x16 to_integer = broadcast(0x1.8p23f);  // adding it leaves the nearest integer in the low bits
  x = max(broadcast(-105.0f), min(broadcast(0x1.62e42ep6f), x));
  const F32x16 n = sub(fma(x, broadcast(0x1.715476p0f), to_integer), to_integer);
  const F32x16 high = fma(n, broadcast(-0x1.62e43p-1f), x);  // exact: n has 8 bits, ln2's high part 24
  const F32x16 r = fma(n, broadcast(0x1.05c61p-29f), high);
  F32x16 p = fma(broadcast(0x1.6a23cap-10f), r, broadcast(0x1.123a2p-7f));
  p = fma(p, r, broadcast(0x1.5558f2p-5f));
  p = fma(p, r, broadcast(0x1.555492p-3f));
  p = fma(p, r, broadcast(0x1.fffffcp-2f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return scale_by_power_of_two(p, n);
}

}  // namespace
}  // namespace fettle
