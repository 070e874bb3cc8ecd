#include <array>

#include "kernels/linear/isa.h"
#include "kernels/linear/linear.h"

namespace fettle {
namespace {

constexpr std::array<std::string_view, 6> kActivationNames = {"f32", "bf16",   "q8g32",
                                                              "q8t", "f8g128", "f8g128_ue8m0"};

#define FETTLE_LINE(scheme, activation, name, isa, function) \
  {name, Scheme::scheme, Activation::activation, Isa::isa,   \
   linear::function<Scheme::scheme, Activation::activation>},
#define FETTLE_AVX512_BF16(scheme, activation, name) \
  FETTLE_LINE(scheme, activation, name, kAvx512Bf16, avx512_bf16)
#define FETTLE_AVX512_VNNI(scheme, activation, name) \
  FETTLE_LINE(scheme, activation, name, kAvx512Vnni, avx512_vnni)
#define FETTLE_AVX512(scheme, activation, name) FETTLE_LINE(scheme, activation, name, kAvx512, avx512)
#define FETTLE_AVX2(scheme, activation, name) FETTLE_LINE(scheme, activation, name, kAvx2, avx2)
#define FETTLE_SCALAR(scheme, activation, name) FETTLE_LINE(scheme, activation, name, kScalar, scalar)
constexpr LinearKernel kKernels[] = {
#include "kernels/linear/kernels.inc"
};
#undef FETTLE_LINE

}  // namespace

std::string_view activation_name(Activation a) { return kActivationNames[static_cast<size_t>(a)]; }

Result<Activation> parse_activation(std::string_view name) {
  for (size_t i = 0; i < kActivationNames.size(); ++i)
    if (kActivationNames[i] == name) return static_cast<Activation>(i);
  return make_error(Code::kUsage,
                    "activation form '{}' is unknown; expected f32, bf16, q8g32, q8t, f8g128 or f8g128_ue8m0",
                    name);
}

std::span<const LinearKernel> linear_kernels() { return kKernels; }

const LinearKernel* find_linear_kernel(Scheme scheme, Activation activation, Isa isa) {
  if (activation == Activation::kF8G128Ue8m0) activation = Activation::kF8G128;  // read alike
  for (const LinearKernel& kernel : kKernels)
    if (kernel.scheme == scheme && kernel.activation == activation && kernel.isa <= isa) return &kernel;
  return nullptr;
}

const LinearKernel* find_linear_kernel(std::string_view name) {
  for (const LinearKernel& kernel : kKernels)
    if (kernel.name == name) return &kernel;
  return nullptr;
}

}  // namespace fettle
