#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cases.h"

namespace fettle {
namespace {

struct Case {
  Scheme scheme;
  Activation activation;
  int64_t n, k, t;
};

std::vector<std::pair<Scheme, Activation>> pairs() {
  std::vector<std::pair<Scheme, Activation>> out;
  for (const LinearKernel& kernel : linear_kernels())
    if (kernel.isa == Isa::kScalar) out.emplace_back(kernel.scheme, kernel.activation);
  return out;
}

std::vector<const LinearKernel*> kernels_here(Scheme scheme, Activation activation) {
  std::vector<const LinearKernel*> out;
  for (const LinearKernel& kernel : linear_kernels())
    if (kernel.scheme == scheme && kernel.activation == activation && kernel.isa <= detect_isa())
      out.push_back(&kernel);
  return out;
}

// The shared shapes: ends of tiles, of panels, of blocks of k and of groups of tokens.
std::vector<Case> shapes(Scheme scheme, Activation activation) {
  const int block = scheme_info(scheme).block_elems;
  std::vector<std::pair<int64_t, int64_t>> nk = {{1, 1}, {16, 24}, {17, 96}, {100, 257}, {48, 544}};
  if (block == 32) nk = {{1, 32}, {16, 64}, {33, 96}, {100, 544}, {48, 1056}};
  if (block == 256) nk = {{1, 256}, {33, 768}, {100, 512}};
  std::vector<Case> out;
  for (auto [n, k] : nk)
    for (int64_t t : {1, 2, 3, 4, 7, 8, 9, 13, 33}) out.push_back({scheme, activation, n, k, t});
  return out;
}

struct Problem {
  Problem(const Case& c, cases::Rng& rng, int code = -1)
      : shape(c),
        rows(cases::weights(c.scheme, c.n, c.k, rng, code)),
        packed(cases::pack(c.scheme, rows, c.n, c.k)),
        inputs(cases::floats(c.t * c.k, rng)),
        x(cases::activations(c.activation, inputs, c.t, c.k)) {}

  LinearArgs args(std::vector<float>& y) const {
    y.assign(static_cast<size_t>(shape.t * shape.n), -77.0f);
    return {packed.data(), shape.n, shape.k, x.data(),           shape.t, y.data(), shape.n,
            nullptr,       false,   0,       tile_count(shape.n)};
  }
  std::vector<float> run(const LinearKernel& kernel) const {
    std::vector<float> y;
    kernel.run(args(y));
    return y;
  }
  std::vector<float> reference() const {
    return run(*find_linear_kernel(shape.scheme, shape.activation, Isa::kScalar));
  }

  Case shape;
  cases::Bytes rows, packed;
  std::vector<float> inputs;
  cases::Bytes x;
};

// NaN equals NaN; anything else to the bit.
bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }

::testing::AssertionResult same_bits(const std::vector<float>& expected, const std::vector<float>& found) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (!same(expected[i], found[i]))
      return ::testing::AssertionFailure()
             << "element " << i << ": " << found[i] << ", expected " << expected[i];
  return ::testing::AssertionSuccess();
}

bool rounds_in_its_own_way(const LinearKernel& kernel) { return kernel.isa == Isa::kAvx512Bf16; }

std::string text(const LinearKernel& kernel, const Case& c) {
  return fmt::format("{} n {} k {} t {}", kernel.name, c.n, c.k, c.t);
}

// The rounding error of k products and sums of numbers up to |w| and |x|, with room for the minimum terms.
double tolerance(const std::vector<float>& w, const std::vector<float>& x, double unit) {
  double most_w = 0, most_x = 0;
  for (float v : w) most_w = std::max(most_w, std::fabs(double{v}));
  for (float v : x) most_x = std::max(most_x, std::fabs(double{v}));
  return 4 * unit * static_cast<double>(w.size()) * most_w * most_x + 1e-30;
}

// x as the kernel sees it.
std::vector<float> values(const Problem& p) {
  const Case& c = p.shape;
  std::vector<float> out(static_cast<size_t>(c.t * c.k));
  auto* bytes = const_cast<std::byte*>(p.x.data());
  const Q8View view =
      c.activation == Activation::kQ8T ? q8t_view(bytes, c.t, c.k) : q8g32_view(bytes, c.t, c.k);
  for (int64_t t = 0; t < c.t; ++t)
    for (int64_t i = 0; i < c.k; ++i) {
      float& v = out[static_cast<size_t>(t * c.k + i)];
      if (c.activation == Activation::kF32) v = reinterpret_cast<const float*>(bytes)[t * c.k + i];
      if (c.activation == Activation::kBF16)
        v = bf16_to_f32(reinterpret_cast<const uint16_t*>(bytes)[t * bf16_row_stride(c.k) + i]);
      if (c.activation == Activation::kQ8T || c.activation == Activation::kQ8G32)
        v = static_cast<float>(view.codes[t * view.k_padded + i]) *
            view.scales[t * view.groups + (c.activation == Activation::kQ8T ? 0 : i / 32)];
      if (c.activation == Activation::kF8G128) {
        const F8View codes = f8g128_view(bytes, c.t, c.k);
        v = e4m3_to_f32(codes.codes[t * codes.k_padded + i]) * codes.scales[t * codes.groups + i / kF8Block];
      }
    }
  return out;
}

class LinearPair : public ::testing::TestWithParam<std::pair<Scheme, Activation>> {
 protected:
  Scheme scheme() const { return GetParam().first; }
  Activation activation() const { return GetParam().second; }
};

TEST_P(LinearPair, DefinitionIsTheProductOfDecodedMatrices) {
  cases::Rng rng(11);
  for (const Case& c : shapes(scheme(), activation())) {
    if (c.t > 3) continue;
    const Problem problem(c, rng);
    const std::vector<float> y = problem.reference(), x = values(problem);
    std::vector<float> w(static_cast<size_t>(c.k)), one(static_cast<size_t>(c.k));
    for (int64_t n = 0; n < c.n; ++n) {
      scheme_info(c.scheme).decode_row(problem.rows.data() + n * row_bytes(c.scheme, c.k), c.k, w.data());
      for (int64_t t = 0; t < c.t; ++t) {
        double sum = 0;
        for (int64_t i = 0; i < c.k; ++i) {
          one[static_cast<size_t>(i)] = x[static_cast<size_t>(t * c.k + i)];
          sum += double{w[static_cast<size_t>(i)]} * one[static_cast<size_t>(i)];
        }
        ASSERT_NEAR(y[static_cast<size_t>(t * c.n + n)], sum, tolerance(w, one, 0x1p-23))
            << scheme_name(c.scheme) << " row " << n << " k " << c.k;
      }
    }
  }
}

TEST_P(LinearPair, EveryKernelEqualsTheDefinition) {
  cases::Rng rng(12);
  std::vector<Case> list = shapes(scheme(), activation());
  list.push_back({scheme(), activation(), 40, 2048, 300});  // more tokens than are gathered at a time
  for (const Case& c : list) {
    const Problem problem(c, rng);
    const std::vector<float> expected = problem.reference();
    for (const LinearKernel* kernel : kernels_here(scheme(), activation())) {
      const std::vector<float> found = problem.run(*kernel);
      if (!rounds_in_its_own_way(*kernel)) {
        ASSERT_TRUE(same_bits(expected, found)) << text(*kernel, c);
        continue;
      }
      // |x| within 5 sigma; |w| <= 1, but for mxfp4 6 * 2^3
      const double most_w = scheme() == Scheme::kMXFP4 ? 48 : 1;
      const double bound = 4 * 0x1p-23 * static_cast<double>(c.k) * 16.0 * most_w;
      for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], bound) << text(*kernel, c);
    }
  }
}

TEST_P(LinearPair, ExtremeCodesEqualTheDefinition) {
  cases::Rng rng(13);
  const int64_t k = scheme_info(scheme()).block_elems == 256 ? 512 : 544;
  for (int code : {0x00, 0x7f, 0x80, 0x81, 0xff}) {
    Problem problem({scheme(), activation(), 20, k, 10}, rng, code);
    for (size_t i = 0; i < problem.inputs.size(); ++i) {
      const size_t token = i / static_cast<size_t>(k);
      problem.inputs[i] = token == 0 ? 0.0f : token % 2 == 1 ? 5.0f : -5.0f;
    }
    problem.x = cases::activations(activation(), problem.inputs, 10, k);
    const std::vector<float> expected = problem.reference();
    for (const LinearKernel* kernel : kernels_here(scheme(), activation())) {
      if (rounds_in_its_own_way(*kernel)) continue;
      EXPECT_TRUE(same_bits(expected, problem.run(*kernel))) << kernel->name << " code " << code;
    }
  }
}

// Bytes from a damaged file: any scale, NaN and infinity included. Equal results prove that nothing else was
// read.
TEST_P(LinearPair, AnyBytesAtAllAreHarmless) {
  cases::Rng rng(14);
  std::uniform_int_distribution<int> byte(0, 255);
  Problem problem({scheme(), activation(), 23, 512, 9}, rng);
  for (int64_t i = 0; i < problem.packed.size(); ++i)
    problem.packed.data()[i] = static_cast<std::byte>(byte(rng));
  problem.inputs[3] = std::numeric_limits<float>::infinity();
  problem.x = cases::activations(activation(), problem.inputs, 9, 512);
  const std::vector<float> expected = problem.reference();
  for (const LinearKernel* kernel : kernels_here(scheme(), activation())) {
    const std::vector<float> found = problem.run(*kernel);
    if (!rounds_in_its_own_way(*kernel)) {
      EXPECT_TRUE(same_bits(expected, found)) << kernel->name;
    }
  }
}

TEST_P(LinearPair, ARowDependsOnNothingElse) {
  cases::Rng rng(15);
  const int64_t n = 83, k = scheme_info(scheme()).block_elems == 256 ? 768 : 608;
  for (int64_t t : {2, 3, 5, 6, 7, 8, 9, 12, 16, 17, 33}) {
    const Problem problem({scheme(), activation(), n, k, t}, rng);
    for (const LinearKernel* kernel : kernels_here(scheme(), activation())) {
      if (kernel->isa == Isa::kScalar) continue;
      const std::vector<float> whole = problem.run(*kernel);
      std::vector<float> one(static_cast<size_t>(n));
      for (int64_t r = 0; r < t; ++r) {
        const std::vector<float> row(problem.inputs.begin() + r * k, problem.inputs.begin() + (r + 1) * k);
        const cases::Bytes x = cases::activations(activation(), row, 1, k);
        kernel->run(
            {problem.packed.data(), n, k, x.data(), 1, one.data(), n, nullptr, false, 0, tile_count(n)});
        ASSERT_TRUE(same_bits({whole.begin() + r * n, whole.begin() + (r + 1) * n}, one))
            << kernel->name << " t " << t << " row " << r;
      }
      for (int64_t split = 0; split <= tile_count(n); ++split) {
        std::vector<float> parts;
        LinearArgs args = problem.args(parts);
        args.tile_end = split;
        kernel->run(args);
        args.tile_begin = split;
        args.tile_end = tile_count(n);
        kernel->run(args);
        ASSERT_TRUE(same_bits(whole, parts)) << kernel->name << " t " << t << " split " << split;
      }
    }
  }
}

TEST_P(LinearPair, BiasAccumulationAndTheEdgeOfY) {
  cases::Rng rng(16);
  const int64_t n = 37, k = 256, t = 11, ldy = 61;
  const Problem problem({scheme(), activation(), n, k, t}, rng);
  const std::vector<float> bias = cases::floats(n, rng);
  for (const LinearKernel* kernel : kernels_here(scheme(), activation())) {
    const std::vector<float> plain = problem.run(*kernel);
    for (bool accumulate : {false, true}) {
      std::vector<float> y(static_cast<size_t>(t * ldy), 0.125f), unused;
      LinearArgs args = problem.args(unused);
      args.y = y.data();
      args.ldy = ldy;
      args.bias = bias.data();
      args.accumulate = accumulate;
      kernel->run(args);
      for (int64_t r = 0; r < t; ++r)
        for (int64_t i = 0; i < ldy; ++i) {
          float expected = 0.125f;
          if (i < n) {
            const float sum = plain[static_cast<size_t>(r * n + i)] + bias[static_cast<size_t>(i)];
            expected = accumulate ? 0.125f + sum : sum;
          }
          ASSERT_TRUE(same(y[static_cast<size_t>(r * ldy + i)], expected))
              << kernel->name << " " << r << "," << i;
        }
    }
  }
}

TEST_P(LinearPair, NoTokensNoTilesNoWork) {
  cases::Rng rng(17);
  const Problem problem({scheme(), activation(), 16, 256, 2}, rng);
  for (const LinearKernel* kernel : kernels_here(scheme(), activation())) {
    std::vector<float> y;
    LinearArgs args = problem.args(y);
    args.t = 0;
    kernel->run(args);
    args.t = 2;
    args.tile_end = 0;
    kernel->run(args);
    for (float v : y) EXPECT_EQ(v, -77.0f) << kernel->name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearPair, ::testing::ValuesIn(pairs()), [](const auto& info) {
  return fmt::format("{}_{}", scheme_name(info.param.first), activation_name(info.param.second));
});

TEST(LinearKernels, EveryPairRunsEverywhere) {
  EXPECT_EQ(pairs().size(), 25u);
  for (const SchemeInfo& info : all_schemes()) {
    const Activation form = is_float_scheme(info.scheme)     ? Activation::kF32
                            : info.scheme == Scheme::kI8C    ? Activation::kQ8T
                            : info.scheme == Scheme::kF8B128 ? Activation::kBF16
                                                             : Activation::kQ8G32;
    for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
      const LinearKernel* kernel = find_linear_kernel(info.scheme, form, isa);
      ASSERT_NE(kernel, nullptr) << info.name;
      EXPECT_LE(kernel->isa, isa);
    }
  }
  EXPECT_NE(find_linear_kernel(Scheme::kBF16, Activation::kBF16, Isa::kScalar), nullptr);
  EXPECT_EQ(find_linear_kernel(Scheme::kQ4_0, Activation::kF32, Isa::kAvx512Bf16), nullptr);
}

// Both forms of e4m3 activations are read by one kernel.
TEST(LinearKernels, PowersOfTwoAreScalesLikeOthers) {
  for (Scheme scheme : {Scheme::kF8B128, Scheme::kMXFP4})
    EXPECT_EQ(find_linear_kernel(scheme, Activation::kF8G128Ue8m0, detect_isa()),
              find_linear_kernel(scheme, Activation::kF8G128, detect_isa()));
}

// Weights that keep their codes are computed with as exactly as fp32 ones: every code, every kind of scale.
TEST(LinearKernels, CodesServeExactComputation) {
  cases::Rng rng(18);
  const int64_t n = 40, k = 1000, t = 9;
  const Problem coded({Scheme::kF8B128, Activation::kF32, n, k, t}, rng);
  cases::Bytes wide(n * k * 4);
  for (int64_t r = 0; r < n; ++r)
    scheme_info(Scheme::kF8B128)
        .decode_row(coded.rows.data() + r * row_bytes(Scheme::kF8B128, k), k,
                    reinterpret_cast<float*>(wide.data()) + r * k);
  const cases::Bytes packed = cases::pack(Scheme::kF32, wide, n, k);
  for (Isa isa : {Isa::kScalar, detect_isa()}) {
    const auto found = coded.run(*find_linear_kernel(Scheme::kF8B128, Activation::kF32, isa));
    std::vector<float> expected;
    LinearArgs args = coded.args(expected);
    args.weight = packed.data();
    find_linear_kernel(Scheme::kF32, Activation::kF32, isa)->run(args);
    float largest = 0;
    for (float v : expected) largest = std::max(largest, std::fabs(v));
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-6f * largest) << i;
  }
}

TEST(LinearKernels, NamesSayWhatTheyAre) {
  for (const LinearKernel& kernel : linear_kernels()) {
    EXPECT_EQ(kernel.name, fmt::format("{}.{}.{}", scheme_name(kernel.scheme),
                                       activation_name(kernel.activation), isa_name(kernel.isa)));
    EXPECT_EQ(find_linear_kernel(kernel.name), &kernel);
  }
  EXPECT_EQ(find_linear_kernel("q4_1.q8g32.abacus"), nullptr);
}

TEST(LinearKernels, BestFirst) {
  for (const LinearKernel& kernel : linear_kernels()) {
    const LinearKernel* best = find_linear_kernel(kernel.scheme, kernel.activation, Isa::kAvx512Bf16);
    EXPECT_GE(best->isa, kernel.isa) << kernel.name;
  }
}

TEST(CpuFeatures, NamesParseBack) {
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16}) {
    const Result<Isa> parsed = parse_isa(isa_name(isa));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, isa);
  }
  EXPECT_FALSE(parse_isa("sse9").ok());
  EXPECT_FALSE(parse_activation("q8").ok());
  EXPECT_EQ(*parse_activation("q8g32"), Activation::kQ8G32);
}

}  // namespace
}  // namespace fettle
