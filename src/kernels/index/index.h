// Scores of cached entries, for choosing those that attention reads (the lightning indexer of DeepSeek-AI
// 2025, DeepSeek-V3.2-Exp, equation 1): of a token with queries q[heads, dim] and weights w[heads], entry j
// scores
//   sum over h of w[h] * relu(scale * q[h] . k[j])
// Entries lie in a paged cache as latent keys (kernels/attention/layout.h): sixteen side by side, scored at
// once. A score depends on its token's q and w and on the entry alone: heads are added in order, whoever is
// scored beside them. With a bf16 cache, q (after scaling) is rounded to bf16 as keys are; products and sums
// are fp32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/attention/attention.h"

namespace fettle {

struct IndexArgs {
  KvShape kv;  // one head
  int64_t heads;
  float scale;
  int64_t tokens;  // scored against each block of keys while it is close
  const float* q;  // q[t * q_stride + h * kv.k_dim]
  int64_t q_stride;
  const float* w;  // w[t * w_stride + h]
  int64_t w_stride;
  const std::byte* pool;  // block b at pool + b * block_stride
  int64_t block_stride;
  const int32_t* table;            // block numbers of the sequence
  int64_t block_begin, block_end;  // places in the table
  float* scores;                   // of entry e: scores[t * scores_stride + e - 64 * block_begin]
  int64_t scores_stride;
  float* scratch;  // index_scratch_floats(kv, heads, tokens)
};
int64_t index_scratch_floats(const KvShape& shape, int64_t heads, int64_t tokens);
using IndexFn = void (*)(const IndexArgs& args);

struct IndexKernel {
  std::string_view name;  // "bf16.avx512-bf16"
  KvType type;
  Isa isa;
  WriteKvFn write_kv;
  IndexFn score;
};
std::span<const IndexKernel> index_kernels();  // best first
const IndexKernel* find_index_kernel(KvType type, Isa isa);

// The `top` entries of scores[count] that score highest, ascending, then -1, to out[top]; of equal ones the
// earlier; what is not a number ranks last. Room is kept from call to call.
struct ChoiceRoom {
  std::vector<uint32_t> ranks;
  std::vector<uint64_t> close;
};
void choose_entries(const float* scores, int64_t count, int64_t top, int32_t* out, ChoiceRoom& room);

}  // namespace fettle
