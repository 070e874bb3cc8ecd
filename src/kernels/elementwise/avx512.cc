// body.h over 512-bit registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/elementwise/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx512.h"
//
#include "kernels/vec16.h"
//
#include "kernels/elementwise/body.h"
#include "kernels/target_end.h"

namespace fettle {

constinit const ElementwiseKernels kElementwiseAvx512 = elementwise_table(Isa::kAvx512);

}  // namespace fettle
#endif
