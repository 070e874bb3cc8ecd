// Scores with pairs of 256-bit registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/index/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx2.h"
//
#include "kernels/vec16.h"
//
#include "kernels/attention/f32_form.h"
//
#include "kernels/attention/bf16_avx2.h"
//
#include "kernels/attention/bf16_form.h"
//
#include "kernels/index/body.h"

namespace fettle {

void score_f32_avx2(const IndexArgs& args) { score<F32Form<1>>(args); }
void score_bf16_avx2(const IndexArgs& args) { score<UnpackedBf16Form<1>>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
