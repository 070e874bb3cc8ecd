// What the attention kernels share besides the layout.
#pragma once

#include "kernels/attention/layout.h"

namespace fettle {

#define FETTLE_ATTENTION(name, type, isa, function, moves)                                       \
  void function(const AttentionArgs& args);                                                      \
  void pack_block_##moves(const KvShape& shape, const BlockRows& rows, std::byte* block);        \
  void read_block_##moves(const KvShape& shape, const std::byte* block, int64_t count, float* k, \
                          int64_t stride);
#include "kernels/attention/kernels.inc"
#undef FETTLE_ATTENTION

// Rows that a kernel keeps in scratch at a time.
inline constexpr int64_t kRowsAtOnce = 48;
// Numbers kept for one q: two whole vectors hold 32 bf16 or 16 fp32 numbers.
inline int64_t padded_q(int64_t k_dim) { return (k_dim + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes); }

// Stops when rows that need several splits have no place for partial results.
void check_attention_args(const AttentionArgs& args);

// One row of the call: query head h of token t, and its place.
struct AttentionRow {
  int64_t token, head, position;
  const float* q;
  float* out;
  float* partial;  // null if the row is finished directly
};
inline AttentionRow attention_row(const AttentionArgs& args, int64_t row) {
  // 32 bits: a division of 64 takes long enough to show for short sequences.
  const uint32_t group = static_cast<uint32_t>(args.heads) / static_cast<uint32_t>(args.kv.kv_heads);
  const int64_t token = args.token_begin + static_cast<uint32_t>(row) / group;
  const int64_t head = args.kv_head * group + static_cast<uint32_t>(row) % group;
  return {token,
          head,
          args.first_position + token,
          args.q + token * args.q_stride + head * args.kv.k_dim,
          args.out + token * args.out_stride + head * args.kv.v_dim,
          args.partial == nullptr ? nullptr : args.partial + row * (2 + args.kv.v_dim)};
}
inline int64_t attention_row_count(const AttentionArgs& args) {
  return (args.token_end - args.token_begin) * (args.heads / args.kv.kv_heads);
}

}  // namespace fettle
