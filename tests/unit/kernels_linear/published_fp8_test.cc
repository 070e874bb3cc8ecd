// Single layers with activations rounded to e4m3 in groups of 128, as the published arithmetic has them:
// tests/data/fp8/activations.safetensors.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "cases.h"
#include "checkpoint/safetensors.h"
#include "tensor/float_groups.h"
#include "tensor/matrix.h"

namespace fettle {
namespace {

const StoredTensor& stored(const std::string& name) {
  static const std::vector<StoredTensor> tensors =
      read_safetensors(FETTLE_TEST_DATA "/fp8/activations.safetensors").value();
  for (const StoredTensor& tensor : tensors)
    if (tensor.name == name) return tensor;
  ADD_FAILURE() << "no tensor " << name;
  std::abort();
}

template <typename T>
std::vector<T> values(const std::string& name) {
  const StoredTensor& tensor = stored(name);
  std::vector<T> out(tensor.bytes / sizeof(T));
  std::memcpy(out.data(), tensor.data, tensor.bytes);
  return out;
}

std::vector<Isa> isas_here() {
  std::vector<Isa> out;
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16})
    if (isa <= detect_isa()) out.push_back(isa);
  return out;
}

struct Layer {
  std::string prefix;
  Scheme scheme;
  int64_t n, k, t;
  cases::Bytes packed;
  std::vector<float> x;

  Layer(const std::string& name, Scheme layer_scheme)
      : prefix("linear/" + name + "/"),
        scheme(layer_scheme),
        n(stored(prefix + "w").shape[0]),
        k(stored(prefix + "x").shape[1]),
        t(stored(prefix + "x").shape[0]),
        packed(0),
        x(values<float>(prefix + "x")) {
    const StoredTensor &w = stored(prefix + "w"), &scale = stored(prefix + "w_scale");
    const MatrixView view{.scheme = scheme,
                          .rows = n,
                          .cols = k,
                          .data = w.data,
                          .owner = w.file,
                          .scales = ScaleView{*scale.dtype, scale.shape[1], scale.data, scale.file}};
    EXPECT_EQ(scale.shape, scales_shape(scheme, n, k));
    cases::Bytes rows(view.bytes());
    view.copy_rows(0, n, rows.data());
    packed = cases::pack(scheme, rows, n, k);
  }

  void expect_product(Activation form, const std::string& expected_name, double of_maximum, Isa isa) const {
    const std::vector<float> expected = values<float>(prefix + expected_name);
    const cases::Bytes input = cases::activations(form, x, t, k, isa);
    std::vector<float> y(static_cast<size_t>(t * n));
    const LinearKernel& kernel = *find_linear_kernel(scheme, form, isa);
    kernel.run({packed.data(), n, k, input.data(), t, y.data(), n, nullptr, false, 0, tile_count(n)});
    float largest = 0;
    for (float v : expected) largest = std::max(largest, std::fabs(v));
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y[i], expected[i], of_maximum * largest)
          << prefix << " " << kernel.name << " " << expected_name << " element " << i;
  }
};

TEST(PublishedFp8, LinearsWithRoundedActivations) {
  for (const std::string name : {"one_block", "edges", "wide", "row"})
    for (const std::string format : {"fp32", "ue8m0"}) {
      const Layer layer(name + "/" + format, Scheme::kF8B128);
      const Activation form = format == "fp32" ? Activation::kF8G128 : Activation::kF8G128Ue8m0;
      for (Isa isa : isas_here()) {
        layer.expect_product(form, "y", 1e-6, isa);
        layer.expect_product(Activation::kF32, "y_weight_only", 1e-6, isa);
        layer.expect_product(Activation::kBF16, "y_weight_only", 1e-6, isa);  // x is representable
      }
    }
}

TEST(PublishedFp8, CodesAndScalesOfTheActivations) {
  for (const std::string name : {"one_block", "edges", "wide", "row"})
    for (const std::string format : {"fp32", "ue8m0"}) {
      const Layer layer(name + "/" + format, Scheme::kF8B128);
      const auto codes = values<uint8_t>(layer.prefix + "x_q");
      const auto scales = values<float>(layer.prefix + "x_scale");
      const Activation form = format == "fp32" ? Activation::kF8G128 : Activation::kF8G128Ue8m0;
      for (Isa isa : isas_here()) {
        cases::Bytes input = cases::activations(form, layer.x, layer.t, layer.k, isa);
        const F8View view = f8g128_view(input.data(), layer.t, layer.k);
        for (int64_t r = 0; r < layer.t; ++r) {
          for (int64_t b = 0; b < view.groups; ++b)
            EXPECT_EQ(view.scales[r * view.groups + b], scales[static_cast<size_t>(r * view.groups + b)])
                << layer.prefix << isa_name(isa);
          for (int64_t i = 0; i < layer.k; ++i)
            ASSERT_EQ(view.codes[r * view.k_padded + i], codes[static_cast<size_t>(r * layer.k + i)])
                << layer.prefix << isa_name(isa) << " row " << r << " column " << i;
        }
      }
    }
}

TEST(PublishedFp8, FourBitWeights) {
  const Layer layer("fp4/ue8m0", Scheme::kMXFP4);
  for (Isa isa : isas_here()) {
    layer.expect_product(Activation::kF8G128Ue8m0, "y", 1e-6, isa);
    layer.expect_product(Activation::kF32, "y_weight_only", 1e-6, isa);
  }
  std::vector<float> rounded = layer.x;
  for (int64_t r = 0; r < layer.t; ++r)
    round_e4m3_groups(rounded.data() + r * layer.k, layer.k, kF8Block, ScaleFormat::kUe8m0);
  EXPECT_EQ(rounded, values<float>(layer.prefix + "x_dequant"));
}

TEST(PublishedFp8, SimulatedStorage) {
  const std::vector<float> x = values<float>("sim/x");
  const int64_t k = 128, rows = static_cast<int64_t>(x.size()) / k;
  const auto each_row = [&](auto round) {
    std::vector<float> out = x;
    for (int64_t r = 0; r < rows; ++r) round(out.data() + r * k);
    return out;
  };
  EXPECT_EQ(each_row([](float* row) { round_e4m3_groups(row, 128, 128, ScaleFormat::kF32); }),
            values<float>("sim/e4m3_128_fp32"));
  EXPECT_EQ(each_row([](float* row) { round_e4m3_groups(row, 128, 128, ScaleFormat::kUe8m0); }),
            values<float>("sim/e4m3_128_ue8m0"));
  EXPECT_EQ(each_row([](float* row) { round_e4m3_groups(row, 128, 64, ScaleFormat::kUe8m0); }),
            values<float>("sim/e4m3_64_ue8m0"));
  EXPECT_EQ(each_row([](float* row) { round_e2m1_groups(row, 128); }), values<float>("sim/fp4_32"));

  const std::vector<float> rotated = values<float>("sim/hadamard");
  const std::vector<float> found = each_row([](float* row) { hadamard_rotate(row, 128); });
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], rotated[i], 1e-6f * std::max(1.0f, std::fabs(rotated[i]))) << i;
  EXPECT_EQ(each_row([](float* row) {
              hadamard_rotate(row, 128);
              for (int i = 0; i < 128; ++i) row[i] = bf16_to_f32(f32_to_bf16(row[i]));
              round_e2m1_groups(row, 128);
            }),
            values<float>("sim/hadamard_bf16_fp4"));
}

}  // namespace
}  // namespace fettle
