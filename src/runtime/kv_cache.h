// The paged cache. Caches that keep entries at the same rate, over the same stretch of the past, form a
// group; each group has blocks of 64 entries, handed out to sequences by number, the same number in every
// cache of the group. Memory is reserved at once and touched only as sequences grow. Sequences may share
// blocks: one that is written into is copied first.
#pragma once

#include <cstdint>
#include <vector>

#include "base/huge_buffer.h"
#include "base/result.h"
#include "graph/graph.h"
#include "kernels/attention/attention.h"

namespace fettle {

// One sequence's place in the cache. `length` positions are stored. Of the draft graph, rows [0, drafted)
// are, each made with the token after its position: who goes on with another token after a truncation
// truncates one position before it.
struct Sequence {
  int64_t length = 0, drafted = 0;
  // By group, the block of entries 64 i.. at i. Of a group with a window, blocks that lie wholly before it
  // are given back and their place holds -1.
  std::vector<std::vector<int32_t>> tables;
  // Positions whose latent attention is computed in its expanded form, all others absorbed: the cells (of the
  // plan's expand_grid positions) that lie in the prompt whole. So it depends on where the prompt lies, not
  // on how it is fed.
  int64_t expand_begin = 0, expand_end = 0;

  // The next `tokens` tokens are a prompt, or what is left of one that begins at `prompt_begin`.
  void expect_prompt(int64_t prompt_begin, int64_t tokens, int64_t grid);
};

class KvCache {
 public:
  // Room for `tokens` positions in all (rounded up to blocks).
  static Result<KvCache> create(const Graph& graph, int64_t tokens);

  // Makes room for positions [0, length) of the sequence, of which those from `from` on are to be written,
  // and gives back what no position from from - kRewind on reads. Fails with kResource, taking nothing, when
  // blocks run out.
  Status reserve(Sequence& sequence, int64_t from, int64_t length);
  Status reserve(Sequence& sequence, int64_t length) { return reserve(sequence, sequence.length, length); }
  void release(Sequence& sequence);  // gives all blocks back
  // Forgets positions from length on; length >= rewind_limit(sequence), or 0.
  void truncate(Sequence& sequence, int64_t length);
  // The shortest length to which a sequence can be cut so that going on from there is exact: 0 without
  // windows, at most kRewind tokens back once a window has moved on.
  int64_t rewind_limit(const Sequence& sequence) const;
  // Another sequence with the same past, sharing its blocks: a snapshot, or a reply that branches off.
  Sequence fork(const Sequence& sequence);

  // Positions by which the sequence could still grow if no other did.
  int64_t room(const Sequence& sequence) const;

  const KvShape& shape(int64_t cache_index) const { return layers_[cache_index].shape; }
  std::byte* pool(int64_t cache_index) const { return memory_.data() + layers_[cache_index].offset; }
  int64_t block_stride(int64_t cache_index) const { return layers_[cache_index].block_bytes; }
  int64_t group(int64_t cache_index) const { return layers_[cache_index].group; }
  int64_t free_blocks(int64_t group = 0) const { return static_cast<int64_t>(groups_[group].free.size()); }
  int64_t total_blocks(int64_t group = 0) const { return groups_[group].total; }

  // Tokens by which a sequence may be cut back, beyond what its windows hold.
  static constexpr int64_t kRewind = 64;

 private:
  struct Layer {
    KvShape shape;
    int64_t offset, block_bytes, group;
  };
  struct Group {
    int64_t rate, window;  // window 0: all of the past
    int64_t total = 0;
    std::vector<int32_t> free;
    std::vector<int32_t> users;  // by block
  };
  int64_t group_of(const CacheSpec& spec);
  int64_t first_kept(const Group& group, int64_t length) const;  // block
  // Places in the table, from the entry of position `from` on, of blocks that others use too.
  std::vector<size_t> shared_blocks(const Group& group, const std::vector<int32_t>& table,
                                    int64_t from) const;
  void give_back(Group& group, int32_t block);
  void copy_block(int64_t group, int32_t from, int32_t to);

  std::vector<Layer> layers_;  // in the order of graph.caches
  std::vector<Group> groups_;
  HugeBuffer memory_;
};

// Bytes of cache by which a sequence grows with each token, over all layers, and what it takes besides once
// its windows are full.
int64_t kv_bytes_per_token(const Graph& graph);
int64_t kv_window_bytes(const Graph& graph);

}  // namespace fettle
