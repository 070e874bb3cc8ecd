// Attention over a bf16 cache with vdpbf16ps: two products a lane, sums in fp32, denormals flushed; in
// prefill 1.8x of avx512.cc. Weights rounded to bf16 pairs instead of fp32 weights on unpacked V: 1.33x
// faster in prefill, equal in decode, and hardly any error beyond that of K and V in bf16 (unit normal data,
// 512 positions, relative rms: K and V 3.8e-4, with q 5.0e-4, with the weights 5.4e-4).
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx512.h"
//
#include "kernels/vec16.h"
//
#include "kernels/attention/bf16_avx512.h"
//
#include "kernels/attention/words_avx512.h"
//
#include "kernels/attention/moves.h"
//
#include "kernels/attention/body.h"
//
#include "kernels/attention/native_bf16_form.h"

namespace fettle {

void attend_bf16_avx512_bf16(const AttentionArgs& args) { attend<Bf16Form>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
