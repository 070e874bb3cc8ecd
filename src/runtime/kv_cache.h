// The paged cache: one pool of blocks of 64 positions, the same block number in every layer, handed out to
// sequences. Memory is reserved at once and touched only as sequences grow.
#pragma once

#include <cstdint>
#include <vector>

#include "base/huge_buffer.h"
#include "base/result.h"
#include "graph/graph.h"
#include "kernels/attention/attention.h"

namespace fettle {

// One sequence's place in the cache. `length` positions are stored.
struct Sequence {
  int64_t length = 0;
  std::vector<int32_t> blocks;
};

class KvCache {
 public:
  // Room for `tokens` positions in all (rounded up to blocks).
  static Result<KvCache> create(const Graph& graph, int64_t tokens);

  // Makes room for positions [0, length) of the sequence. Fails with kResource, taking nothing, when blocks
  // run out.
  Status reserve(Sequence& sequence, int64_t length);
  void release(Sequence& sequence);                   // gives all blocks back
  void truncate(Sequence& sequence, int64_t length);  // forgets positions from length on

  const KvShape& shape(int64_t cache_index) const { return layers_[cache_index].shape; }
  std::byte* pool(int64_t cache_index) const { return memory_.data() + layers_[cache_index].offset; }
  int64_t block_stride(int64_t cache_index) const { return layers_[cache_index].block_bytes; }
  int64_t block_bytes() const { return block_bytes_; }  // over all layers
  int64_t free_blocks() const { return static_cast<int64_t>(free_.size()); }
  int64_t total_blocks() const { return total_blocks_; }

 private:
  struct Layer {
    KvShape shape;
    int64_t offset, block_bytes;
  };
  std::vector<Layer> layers_;  // in the order of graph.caches
  HugeBuffer memory_;
  std::vector<int32_t> free_;
  int64_t total_blocks_ = 0;
  int64_t block_bytes_ = 0;
};

// Bytes of cache per token over all layers.
int64_t kv_bytes_per_token(const Graph& graph);

}  // namespace fettle
