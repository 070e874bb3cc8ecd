#include "kernels/elementwise/kernels.h"

namespace fettle {

std::span<const ElementwiseKernels> elementwise_kernels() {
  static const ElementwiseKernels tables[] = {
#define FETTLE_ELEMENTWISE(constant) constant,
#include "kernels/elementwise/kernels.inc"
#undef FETTLE_ELEMENTWISE
  };
  return tables;
}

const ElementwiseKernels& find_elementwise_kernels(Isa isa) {
  const std::span<const ElementwiseKernels> all = elementwise_kernels();
  for (const ElementwiseKernels& kernels : all)
    if (kernels.isa <= isa) return kernels;
  return all.back();
}

}  // namespace fettle
