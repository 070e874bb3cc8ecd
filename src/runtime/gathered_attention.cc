#include "runtime/gathered_attention.h"

#include <algorithm>

#include "base/check.h"

namespace fettle {

void GatheredAttention::add(const CacheView& cache, int64_t entry) {
  const auto stride = static_cast<size_t>(kv_block_bytes(shape_));
  const auto block = static_cast<size_t>(count_ / kBlockTokens);
  if (block >= table_.size()) table_.push_back(static_cast<int32_t>(block));
  if (blocks_.size() < (block + 1) * stride) blocks_.resize((block + 1) * stride);
  copy_kv(shape_, cache.block(entry), entry % kBlockTokens, blocks_.data() + block * stride,
          count_ % kBlockTokens);
  ++count_;
}

void GatheredAttention::attend(const float* q, int64_t heads, const float* sinks, float* out,
                               float* scratch) {
  CHECK(count_ > 0);
  const int64_t splits = (count_ + kSplitTokens - 1) / kSplitTokens, row = 2 + shape_.v_dim;
  AttentionArgs args{.kv = shape_,
                     .heads = heads,
                     .scale = scale_,
                     .q = q,
                     .q_stride = heads * shape_.k_dim,
                     .out = out,
                     .out_stride = heads * shape_.v_dim,
                     .pool = blocks_.data(),
                     .block_stride = kv_block_bytes(shape_),
                     .table = table_.data(),
                     .first_position = count_ - 1,
                     .kv_head = 0,
                     .token_begin = 0,
                     .token_end = 1,
                     .split = 0,
                     .partial = nullptr,
                     .scratch = scratch};
  if (splits == 1 && !sinks) return kernel_->run(args);
  partials_.resize(static_cast<size_t>((splits + 1) * heads * row));
  for (args.split = 0; args.split < splits; ++args.split) {
    args.partial = partials_.data() + args.split * heads * row;
    kernel_->run(args);
  }
  // A sink is one more part, of weight one at its logit, whose output is zero.
  float* sink_parts = partials_.data() + splits * heads * row;
  for (int64_t h = 0; sinks && h < heads; ++h) {
    float* part = sink_parts + h * row;
    part[0] = sinks[h];
    part[1] = 1;
    std::fill_n(part + 2, shape_.v_dim, 0.0f);
  }
  for (int64_t h = 0; h < heads; ++h)
    merge_splits(partials_.data() + h * row, heads * row, splits + (sinks ? 1 : 0), shape_.v_dim,
                 out + h * shape_.v_dim);
}

}  // namespace fettle
