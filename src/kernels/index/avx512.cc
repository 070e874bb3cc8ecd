// Scores with 512-bit registers, without bf16 products.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/index/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx512.h"
//
#include "kernels/vec16.h"
//
#include "kernels/attention/f32_form.h"
//
#include "kernels/attention/bf16_avx512.h"
//
#include "kernels/attention/bf16_form.h"
//
#include "kernels/index/body.h"

namespace fettle {

void score_f32_avx512(const IndexArgs& args) { score<F32Form<4>>(args); }
void score_bf16_avx512(const IndexArgs& args) { score<UnpackedBf16Form<2>>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
