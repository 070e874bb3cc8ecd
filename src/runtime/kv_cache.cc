#include "runtime/kv_cache.h"

#include <algorithm>

#include "base/check.h"

namespace fettle {

namespace {

Result<KvShape> kv_shape(const CacheSpec& spec) {
  TRY(const KvType type, parse_kv_type(spec.type));
  return KvShape{type, spec.kv_heads, spec.k_dim, spec.v_dim, spec.latent};
}

int64_t blocks_for(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

}  // namespace

int64_t kv_bytes_per_token(const Graph& graph) {
  int64_t bytes = 0;
  for (const CacheSpec& c : graph.caches) {
    const auto shape = kv_shape(c);
    if (shape.ok()) bytes += kv_block_bytes(*shape) / kBlockTokens;
  }
  return bytes;
}

Result<KvCache> KvCache::create(const Graph& graph, int64_t tokens) {
  KvCache cache;
  cache.total_blocks_ = std::max<int64_t>(1, blocks_for(tokens));
  if (cache.total_blocks_ > INT32_MAX)
    return make_error(Code::kUsage, "a cache of {} tokens is too large", tokens);
  int64_t offset = 0;
  for (const CacheSpec& spec : graph.caches) {
    TRY(const KvShape shape, kv_shape(spec));
    const int64_t bytes = kv_block_bytes(shape);
    cache.layers_.push_back({shape, offset, bytes});
    int64_t all = 0;
    if (__builtin_mul_overflow(bytes, cache.total_blocks_, &all) ||
        __builtin_add_overflow(offset, all, &offset))
      return make_error(Code::kResource, "a cache of {} tokens is too large; use a smaller context", tokens);
    cache.block_bytes_ += bytes;
  }
  TRY(cache.memory_, HugeBuffer::allocate(static_cast<uint64_t>(offset)));
  for (int64_t b = cache.total_blocks_ - 1; b >= 0; --b) cache.free_.push_back(static_cast<int32_t>(b));
  return cache;
}

Status KvCache::reserve(Sequence& sequence, int64_t length) {
  const int64_t missing = blocks_for(length) - static_cast<int64_t>(sequence.blocks.size());
  if (missing > free_blocks())
    return make_error(
        Code::kResource,
        "the cache is full: {} more blocks of {} tokens needed, {} of {} free; use a larger --context",
        missing, kBlockTokens, free_blocks(), total_blocks_);
  for (int64_t i = 0; i < missing; ++i) {
    sequence.blocks.push_back(free_.back());
    free_.pop_back();
  }
  return {};
}

void KvCache::release(Sequence& sequence) { truncate(sequence, 0); }

void KvCache::truncate(Sequence& sequence, int64_t length) {
  CHECK(length <= sequence.length || sequence.length == 0, "{} > {}", length, sequence.length);
  const size_t keep = static_cast<size_t>(blocks_for(length));
  while (sequence.blocks.size() > keep) {
    free_.push_back(sequence.blocks.back());
    sequence.blocks.pop_back();
  }
  sequence.length = std::min(sequence.length, length);
}

}  // namespace fettle
