// Causal attention of new tokens over a paged KV cache, grouped queries. One row = one (token, query head).
//
// The cache of one layer is a pool of blocks of kBlockTokens positions; a sequence's positions p lie in block
// table[p / 64] at p % 64. A block holds, for each kv head, a K part and a V part (kv_block_bytes()); the
// order inside is this folder's business: write_kv stores, attention reads. Contract: a row's result depends
// only on its q and on positions 0..pos of its own sequence: not on chunking, batch, threads, or which blocks
// are used. Positions are reduced in order, block of 64 by block of 64, with running maximum and sum (online
// softmax, Milakov & Gimelshein 2018), restarted at every kSplitTokens and merged in order. All instruction
// sets agree to rounding; within one, equality is exact.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/cpu_features.h"

namespace fettle {

inline constexpr int64_t kBlockTokens = 64;
inline constexpr int64_t kSplitTokens =
    1024;  // absolute positions s*1024 .. : the unit that threads share for long contexts

// kInt8, kFp8: of latent caches alone. The numbers that are values are kept as codes of 8 bits with an fp32
// scale for each 128 of a position; those that are only keys (rotated) in bf16. All are used as bf16.
enum class KvType : uint8_t { kF32, kBF16, kInt8, kFp8 };
inline bool is_coded(KvType type) { return type == KvType::kInt8 || type == KvType::kFp8; }
std::string_view kv_type_name(KvType type);
Result<KvType> parse_kv_type(std::string_view name);

// v_dim may differ from k_dim.
struct KvShape {
  KvType type;
  int64_t kv_heads, k_dim, v_dim;
  bool latent = false;  // V is the first v_dim numbers of K, and stored once
};
// What a type asks of a shape: kUnsupported says what does not fit.
Status check_kv_shape(const KvShape& shape);
int64_t kv_block_bytes(const KvShape& shape);  // one block of one layer; a multiple of 64

// Stores k[kv_heads*k_dim] and v[kv_heads*v_dim] (not read if latent) of one token at position slot (0..63)
// of a block.
using WriteKvFn = void (*)(const KvShape& shape, const float* k, const float* v, std::byte* block,
                           int64_t slot);

// Copies one position between blocks of the same shape.
void copy_kv(const KvShape& shape, const std::byte* from, int64_t from_slot, std::byte* to, int64_t to_slot);

// Stores the first `count` positions of a block of one head at once; what lay behind them is lost.
struct BlockRows {
  const float* k;
  int64_t k_stride;
  const float* v;
  int64_t v_stride, count;
};
using PackBlockFn = void (*)(const KvShape& shape, const BlockRows& rows, std::byte* block);
// K of the first `count` positions of a block of one head.
using ReadBlockFn = void (*)(const KvShape& shape, const std::byte* block, int64_t count, float* k,
                             int64_t stride);

struct AttentionArgs {
  KvShape kv;
  int64_t heads;   // query heads, a multiple of kv_heads; head h uses kv head h / (heads / kv_heads)
  float scale;     // of q.k
  const float* q;  // rows of the sequence's new tokens: q[t * q_stride + h * k_dim]
  int64_t q_stride;
  float* out;  // out[t * out_stride + h * v_dim]
  int64_t out_stride;
  std::byte* pool;  // the layer's blocks; block b at pool + b * block_stride
  int64_t block_stride;
  const int32_t* table;    // block numbers of the sequence
  int64_t first_position;  // absolute position of token t = 0
  // What to compute: kv head, tokens [token_begin, token_end) and the split of positions. With several
  // splits, partial results (maximum, sum, unnormalised output: 2 + v_dim floats a row) go to `partial`, and
  // merge_splits finishes the row. Row (token, query head) is the (token - token_begin) * (heads / kv_heads)
  // + head % (heads / kv_heads) -th there.
  int64_t kv_head, token_begin, token_end;
  int64_t split;   // which kSplitTokens range of positions
  float* partial;  // null: a row that needs only one split is finished directly into out
  float* scratch;  // attention_scratch_floats()
};
int64_t attention_scratch_floats(const KvShape& shape, int64_t heads);
using AttentionFn = void (*)(const AttentionArgs& args);
// partials[s * (2 + v_dim)], s < splits, merged in order of s into out[v_dim].
void merge_splits(const float* partials, int64_t stride, int64_t splits, int64_t v_dim, float* out);

struct AttentionKernel {
  std::string_view name;  // "bf16.avx512-bf16"
  KvType type;
  Isa isa;
  WriteKvFn write_kv;
  PackBlockFn pack_block;
  ReadBlockFn read_block;
  AttentionFn run;
};
std::span<const AttentionKernel> attention_kernels();  // best first
const AttentionKernel* find_attention_kernel(KvType type, Isa isa);

}  // namespace fettle
