// Attention with pairs of 256-bit registers: 16 registers hold six rows of one vector.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/kernels.h"

#define FETTLE_TARGET "avx2,fma,f16c"
#include "kernels/target_begin.h"
//
#include "kernels/vec16_avx2.h"
//
#include "kernels/vec16.h"
//
#include "kernels/attention/bf16_avx2.h"
//
#include "kernels/attention/words_avx2.h"
//
#include "kernels/attention/moves.h"
//
#include "kernels/attention/body.h"
//
#include "kernels/attention/f32_form.h"
//
#include "kernels/attention/bf16_form.h"

namespace fettle {

void pack_block_avx2(const KvShape& shape, const BlockRows& rows, std::byte* block) {
  pack_rows(shape, rows, block);
}
void read_block_avx2(const KvShape& shape, const std::byte* block, int64_t count, float* k, int64_t stride) {
  read_block(shape, block, count, k, stride);
}
void attend_f32_avx2(const AttentionArgs& args) { attend<F32Form<1>>(args); }
void attend_bf16_avx2(const AttentionArgs& args) { attend<UnpackedBf16Form<1>>(args); }

}  // namespace fettle
#include "kernels/target_end.h"
#endif
