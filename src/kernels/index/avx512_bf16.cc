// Scores of bf16 keys with vdpbf16ps: two products a lane.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/index/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx512.h"
//
#include "kernels/vec16.h"
//
#include "kernels/attention/native_bf16_form.h"
//
#include "kernels/index/body.h"

namespace fettle {

void score_bf16_avx512_bf16(const IndexArgs& args) { score<Bf16Form>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
