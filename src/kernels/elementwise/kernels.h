// The tables that the ISA files define and kernels.cc lists.
#pragma once

#include "kernels/elementwise/elementwise.h"

namespace fettle {

#define FETTLE_ELEMENTWISE(constant) extern const ElementwiseKernels constant;
#include "kernels/elementwise/kernels.inc"
#undef FETTLE_ELEMENTWISE

}  // namespace fettle
