// Attention of one token over some entries of caches. They are copied side by side, in the order given, into
// blocks of their own, over which the usual kernel runs as over positions 0, 1, ...: so every kernel and
// cache type serves, only what is chosen is read, and all heads share the copy. A row's result depends on its
// entries alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention/attention.h"

namespace fettle {

// One cache of a sequence.
struct CacheView {
  const std::byte* pool;
  int64_t stride;  // of blocks
  const int32_t* table;
  const std::byte* block(int64_t entry) const { return pool + table[entry / kBlockTokens] * stride; }
};

class GatheredAttention {
 public:
  // The caches' entries are latent: one head that all query heads share.
  GatheredAttention(const AttentionKernel& kernel, const KvShape& shape, float scale)
      : kernel_(&kernel), shape_(shape), scale_(scale) {}
  int64_t scratch_floats(int64_t heads) const { return attention_scratch_floats(shape_, heads); }

  void clear() { count_ = 0; }
  void add(const CacheView& cache, int64_t entry);
  void add_range(const CacheView& cache, int64_t begin, int64_t end) {
    for (int64_t entry = begin; entry < end; ++entry) add(cache, entry);
  }
  int64_t count() const { return count_; }

  // q[heads, k_dim] to out[heads, v_dim], which lie without gaps. sinks[heads], or null: a logit for each
  // head that takes part in the softmax and adds nothing.
  void attend(const float* q, int64_t heads, const float* sinks, float* out, float* scratch);

 private:
  const AttentionKernel* kernel_;
  KvShape shape_;
  float scale_;
  int64_t count_ = 0;
  std::vector<std::byte> blocks_;
  std::vector<int32_t> table_;
  std::vector<float> partials_;
};

}  // namespace fettle
