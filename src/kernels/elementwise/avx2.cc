// body.h over pairs of 256-bit registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/elementwise/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx2.h"
//
#include "kernels/vec16.h"
//
#include "kernels/elementwise/body.h"
#include "kernels/target_end.h"

namespace fettle {

constinit const ElementwiseKernels kElementwiseAvx2 = elementwise_table(Isa::kAvx2);

}  // namespace fettle
#endif
