// Attention with 512-bit registers, without bf16 products: in prefill 1.8x (fp32) and 2.3x (bf16) of avx2.cc
// on a processor with full-width units.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"
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
#include "kernels/attention/f32_form.h"
//
#include "kernels/attention/bf16_form.h"

namespace fettle {

void pack_block_avx512(const KvShape& shape, const BlockRows& rows, std::byte* block) {
  pack_rows(shape, rows, block);
}
void read_block_avx512(const KvShape& shape, const std::byte* block, int64_t count, float* k,
                       int64_t stride) {
  read_block(shape, block, count, k, stride);
}
void attend_f32_avx512(const AttentionArgs& args) { attend<F32Form<4>>(args); }
void attend_bf16_avx512(const AttentionArgs& args) { attend<UnpackedBf16Form<2>>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
