// The row-wise operations of elementwise.h, written once over vec16.h; each ISA's .cc includes it (see
// vec16.h).
#pragma once

namespace fettle {
namespace {

void rms_norm(const float* x, const float* weight, float eps, int64_t d, float* out) {
  F32x16 squares = broadcast(0.0f);
  int64_t i = 0;
  for (; i + 16 <= d; i += 16) squares = fma(load(x + i), load(x + i), squares);
  if (i < d) {
    const F32x16 last = load_part(x + i, d - i);
    squares = fma(last, last, squares);
  }
  const float mean = reduce_add(squares) / static_cast<float>(d);
  const F32x16 inverse = broadcast(1.0f / std::sqrt(mean + eps));
  for (i = 0; i + 16 <= d; i += 16) store(out + i, mul(mul(load(x + i), inverse), load(weight + i)));
  const int64_t rest = d - i;
  if (rest > 0)
    store_part(out + i, mul(mul(load_part(x + i, rest), inverse), load_part(weight + i, rest)), rest);
}

inline F32x16 silu_mul_lanes(F32x16 gate, F32x16 up) {
  const F32x16 one = broadcast(1.0f);
  const F32x16 silu = div(gate, add(one, exp_approx(sub(broadcast(0.0f), gate))));
  return mul(silu, up);
}

void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, silu_mul_lanes(load(gate + i), load(up + i)));
  const int64_t rest = n - i;
  if (rest > 0) store_part(out + i, silu_mul_lanes(load_part(gate + i, rest), load_part(up + i, rest)), rest);
}

void silu_mul_limited(const float* gate, const float* up, float limit, int64_t n, float* out) {
  const F32x16 most = broadcast(limit), least = broadcast(-limit);
  for (int64_t i = 0; i < n; i += 16) {
    const F32x16 g = min(load_part(gate + i, n - i), most);
    const F32x16 u = max(min(load_part(up + i, n - i), most), least);
    store_part(out + i, silu_mul_lanes(g, u), n - i);
  }
}

float sum_squares(const float* x, int64_t n) {
  F32x16 sum = broadcast(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const F32x16 v = load_part(x + i, n - i);
    sum = fma(v, v, sum);
  }
  return reduce_add(sum);
}

void weighted_sum(const float* const* rows, const float* weights, int64_t row_count, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    F32x16 sum = mul(load_part(rows[0] + i, n - i), broadcast(weights[0]));
    for (int64_t r = 1; r < row_count; ++r)
      sum = fma(load_part(rows[r] + i, n - i), broadcast(weights[r]), sum);
    store_part(out + i, sum, n - i);
  }
}

void softmax_pool(const float* const* values, const float* const* gates, int64_t row_count, int64_t n,
                  float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t left = n - i;
    F32x16 top = load_part(gates[0] + i, left);
    for (int64_t r = 1; r < row_count; ++r) top = max(top, load_part(gates[r] + i, left));
    F32x16 sum = broadcast(0.0f), mixed = sum;
    for (int64_t r = 0; r < row_count; ++r) {
      const F32x16 weight = exp_approx(sub(load_part(gates[r] + i, left), top));
      sum = add(sum, weight);
      mixed = fma(weight, load_part(values[r] + i, left), mixed);
    }
    store_part(out + i, div(mixed, sum), left);
  }
}

void add_rows(const float* a, const float* b, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, add(load(a + i), load(b + i)));
  const int64_t rest = n - i;
  if (rest > 0) store_part(out + i, add(load_part(a + i, rest), load_part(b + i, rest)), rest);
}

void axpy(float s, const float* x, int64_t n, float* y) {
  const F32x16 factor = broadcast(s);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, fma(factor, load(x + i), load(y + i)));
  const int64_t rest = n - i;
  if (rest > 0) store_part(y + i, fma(factor, load_part(x + i, rest), load_part(y + i, rest)), rest);
}

// (a, b) -> (a c - b s, a s + b c), every product rounded before the sum.
void rope_half(float* x, const float* cos, const float* sin, int64_t dim) {
  const int64_t half = dim / 2;
  float* y = x + half;
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t n = half - i;
    const F32x16 a = load_part(x + i, n), b = load_part(y + i, n);
    const F32x16 c = load_part(cos + i, n), s = load_part(sin + i, n);
    store_part(x + i, sub(mul(a, c), mul(b, s)), n);
    store_part(y + i, add(mul(a, s), mul(b, c)), n);
  }
}

// Two neighbouring lanes a pair need no vector of their own: the compiler interleaves this loop as well as a
// hand would.
void rope_pairs(float* x, const float* cos, const float* sin, int64_t dim) {
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}

void softmax(float* x, int64_t n) {
  if (n <= 0) return;
  const F32x16 least = broadcast(-std::numeric_limits<float>::infinity());
  F32x16 top = least;
  for (int64_t i = 0; i < n; i += 16)
    top = max(top, select(first_lanes(n - i), load_part(x + i, n - i), least));
  const F32x16 top_everywhere = broadcast(reduce_max(top));
  F32x16 sum = broadcast(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const F32x16 p = exp_approx(sub(load_part(x + i, n - i), top_everywhere));
    store_part(x + i, p, n - i);
    sum = add(sum, select(first_lanes(n - i), p, broadcast(0.0f)));
  }
  const F32x16 inverse = broadcast(1.0f / reduce_add(sum));
  for (int64_t i = 0; i < n; i += 16) store_part(x + i, mul(load_part(x + i, n - i), inverse), n - i);
}

float block_maxima(const float* x, int64_t n, float* maxima) {
  const F32x16 least = broadcast(-std::numeric_limits<float>::infinity());
  F32x16 largest = least;
  int64_t i = 0;
  for (; i + kMaximaBlock <= n; i += kMaximaBlock) {
    const F32x16 a = max(load(x + i + 16), max(load(x + i), least));  // a NaN loses to the second operand
    const F32x16 b = max(load(x + i + 48), max(load(x + i + 32), least));
    const F32x16 both = max(a, b);
    *maxima++ = reduce_max(both);
    largest = max(largest, both);
  }
  if (i == n) return reduce_max(largest);
  F32x16 last = least;
  for (; i < n; i += 16) last = max(select(first_lanes(n - i), load_part(x + i, n - i), least), last);
  *maxima = reduce_max(last);
  return reduce_max(max(largest, last));
}

double sum_exp(const float* x, float top, float factor, int64_t n) {
  constexpr int64_t kRun = 1024;
  const F32x16 tops = broadcast(top), factors = broadcast(factor), lowest = broadcast(-87.0f);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    const int64_t end = std::min(begin + kRun, n);
    F32x16 sum = broadcast(0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16)
      sum = add(sum, exp_approx(max(mul(sub(load(x + i), tops), factors), lowest)));
    if (i < end) {
      const F32x16 last = exp_approx(max(mul(sub(load_part(x + i, end - i), tops), factors), lowest));
      sum = add(sum, select(first_lanes(end - i), last, broadcast(0.0f)));
    }
    total += static_cast<double>(reduce_add(sum));
  }
  return total;
}

// Eight doubles as GCC and Clang define them for any instruction set: nothing else here needs doubles.
using Doubles = double __attribute__((vector_size(64)));
using LongLanes = int64_t __attribute__((vector_size(64)));

// By its Taylor series on [-ln2/2, ln2/2].
inline void exp_eight(double* p) {
  constexpr double kMagic = 0x1.8p52;  // leaves n in the low bits
  constexpr double kLog2E = 1.4426950408889634, kLn2High = 0x1.62e42fee00000p-1,
                   kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr double kFactors[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1.0,         1.0};
  Doubles x;
  __builtin_memcpy(&x, p, sizeof x);
  const Doubles lowest = Doubles{} - 700.0;
  x = x > lowest ? x : lowest;
  const Doubles shifted = x * kLog2E + kMagic;
  const Doubles n = shifted - kMagic;
  const Doubles r = (x - n * kLn2High) - n * kLn2Low;
  Doubles sum = Doubles{} + 1.0 / 6227020800.0;
  for (const double factor : kFactors) sum = sum * r + factor;
  const LongLanes bits = reinterpret_cast<LongLanes>(sum) + (reinterpret_cast<LongLanes>(shifted) << 52);
  __builtin_memcpy(p, &bits, sizeof bits);
}

void exp_doubles(double* x, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) exp_eight(x + i);
  if (i == n) return;
  double last[8] = {};
  for (int64_t j = i; j < n; ++j) last[j - i] = x[j];
  exp_eight(last);
  for (int64_t j = i; j < n; ++j) x[j] = last[j - i];
}

using WordLanes = uint32_t __attribute__((vector_size(64)));

// Without their signs, the bits of floats are in order, and those of NaN come last.
float magnitude(const float* x, int64_t n) {
  WordLanes most = {}, lanes = {};
  const auto take = [&] {
    lanes &= 0x7fffffffu;
    most = lanes > most ? lanes : most;
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __builtin_memcpy(&lanes, x + i, sizeof lanes);
    take();
  }
  lanes = WordLanes{};
  __builtin_memcpy(&lanes, x + i, static_cast<size_t>(n - i) * sizeof(float));
  take();
  uint32_t largest = 0;
  for (int l = 0; l < 16; ++l) largest = std::max(largest, most[l]);
  return std::bit_cast<float>(largest);
}

inline F32x16 nearest_code(F32x16 w, F32x16 inverse, F32x16 top) {
  const F32x16 magic = broadcast(0x1.8p23f);  // leaves no bits for a fraction, ties go to even
  const F32x16 within = min(max(mul(w, inverse), sub(broadcast(0.0f), top)), top);
  return sub(add(within, magic), magic);
}

// The lanes in order of quant/fit.h: four sums of four lanes.
inline double sum_fours(F32x16 v) {
  float l[16];
  store(l, v);
  const auto four = [&](int i) { return (l[i] + l[4 + i]) + (l[8 + i] + l[12 + i]); };
  return static_cast<double>((four(0) + four(2)) + (four(1) + four(3)));
}

CodeFit fit_codes(const float* w, int64_t n, float scale, float top) {
  const F32x16 inverse = broadcast(1.0f / scale), scales = broadcast(scale), tops = broadcast(top);
  F32x16 error = broadcast(0.0f), slope = error, curvature = error;
  const auto take = [&](F32x16 x) {
    const F32x16 q = nearest_code(x, inverse, tops), r = sub(x, mul(q, scales));
    error = add(error, mul(r, r));
    slope = add(slope, mul(q, r));
    curvature = add(curvature, mul(q, q));
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) take(load(w + i));
  if (i < n) take(load_part(w + i, n - i));
  return {sum_fours(error), sum_fours(slope), sum_fours(curvature)};
}

void whole_codes(const float* x, int64_t n, float inverse, float top, int8_t* out) {
  const F32x16 factor = broadcast(inverse), tops = broadcast(top);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_codes(out + i, nearest_code(load(x + i), factor, tops));
  if (i == n) return;
  int8_t last[16];
  store_codes(last, nearest_code(load_part(x + i, n - i), factor, tops));
  __builtin_memcpy(out + i, last, static_cast<size_t>(n - i));
}

void scale_e4m3(const uint8_t* codes, int64_t n, float scale, float* out) {
  const F32x16 factor = broadcast(scale);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, mul(load_e4m3(codes + i), factor));
  if (i == n) return;
  uint8_t last[16] = {};
  __builtin_memcpy(last, codes + i, static_cast<size_t>(n - i));
  store_part(out + i, mul(load_e4m3(last), factor), n - i);
}

constexpr ElementwiseKernels elementwise_table(Isa isa) {
  return {isa,          rms_norm,     silu_mul,  silu_mul_limited, add_rows,  axpy,         sum_squares,
          weighted_sum, softmax_pool, rope_half, rope_pairs,       softmax,   block_maxima, sum_exp,
          exp_doubles,  magnitude,    fit_codes, whole_codes,      scale_e4m3};
}

}  // namespace
}  // namespace fettle
