// Blocks of the cache: windows that move on, entries at a rate, sequences that share their past.
#include "runtime/kv_cache.h"

#include <cstring>

#include "model/testing.h"

namespace fettle {
namespace {

Graph caches() {
  Graph graph;
  graph.caches.push_back({.layer = 0, .kv_heads = 1, .k_dim = 4, .v_dim = 4, .kind = CacheKind::kLatent});
  graph.caches.push_back(
      {.layer = 1, .kv_heads = 1, .k_dim = 8, .v_dim = 8, .kind = CacheKind::kLatent, .window = 100});
  graph.caches.push_back({.layer = 1,
                          .kv_heads = 1,
                          .k_dim = 6,
                          .v_dim = 6,
                          .kind = CacheKind::kRows,
                          .role = "recent",
                          .window = 8});
  graph.caches.push_back({.layer = 1,
                          .kv_heads = 1,
                          .k_dim = 4,
                          .v_dim = 4,
                          .kind = CacheKind::kLatent,
                          .role = "entries",
                          .rate = 4});
  return graph;
}

void grow(KvCache& cache, Sequence& sequence, int64_t length) {
  const Status reserved = cache.reserve(sequence, length);
  ASSERT_TRUE(reserved.ok()) << reserved.error().message();
  sequence.length = length;
}

TEST(KvCache, GroupsHaveTheirOwnBlocks) {
  KvCache cache = must(KvCache::create(caches(), 1024));
  EXPECT_EQ(cache.group(0), 0);
  EXPECT_EQ(cache.group(1), 1);
  EXPECT_EQ(cache.group(2), 1);  // windows share blocks, as long as the widest
  EXPECT_EQ(cache.group(3), 2);
  EXPECT_EQ(kv_bytes_per_token(caches()), 4 * 4 + 4 * 4 / 4);
  EXPECT_EQ(kv_window_bytes(caches()), (8 + 6) * 4 * 64 * 4);
  Sequence sequence;
  grow(cache, sequence, 300);
  EXPECT_EQ(sequence.tables[0].size(), 5u);
  EXPECT_EQ(sequence.tables[1].size(), 5u);
  EXPECT_EQ(sequence.tables[2].size(), 2u);  // 75 entries
  cache.release(sequence);
  for (int64_t g = 0; g < 3; ++g) EXPECT_EQ(cache.free_blocks(g), cache.total_blocks(g));
}

TEST(KvCache, AWindowMovesOn) {
  KvCache cache = must(KvCache::create(caches(), 1 << 20));
  Sequence sequence;
  for (int64_t length = 64; length <= 64 * 64; length += 64) {
    grow(cache, sequence, length);
    EXPECT_LE(cache.total_blocks(1) - cache.free_blocks(1), 5) << length;
    // Whatever a step that goes on from rewind_limit reads is there.
    const int64_t limit = cache.rewind_limit(sequence);
    EXPECT_LE(limit, std::max<int64_t>(0, length - KvCache::kRewind));
    for (int64_t p = std::max<int64_t>(0, limit - 100); p < length; ++p)
      ASSERT_GE(sequence.tables[1][static_cast<size_t>(p / 64)], 0) << p << " of " << length;
  }
  cache.truncate(sequence, cache.rewind_limit(sequence));
  grow(cache, sequence, 64 * 64);
  cache.release(sequence);
  for (int64_t g = 0; g < 3; ++g) EXPECT_EQ(cache.free_blocks(g), cache.total_blocks(g));
}

TEST(KvCache, ForksShareBlocksUntilTheyWrite) {
  KvCache cache = must(KvCache::create(caches(), 1024));
  Sequence first;
  grow(cache, first, 100);
  auto* numbers = [&](const Sequence& s, int64_t position) {
    return reinterpret_cast<float*>(cache.pool(0) +
                                    s.tables[0][static_cast<size_t>(position / 64)] * cache.block_stride(0)) +
           position % 64;
  }(first, 99);
  *numbers = 42;
  const int64_t free = cache.free_blocks(0);
  Sequence second = cache.fork(first);
  EXPECT_EQ(cache.free_blocks(0), free);
  grow(cache, second, 101);
  EXPECT_EQ(second.tables[0][0], first.tables[0][0]);
  EXPECT_NE(second.tables[0][1], first.tables[0][1]);  // the block that is written into is its own
  EXPECT_EQ(cache.free_blocks(0), free - 1);
  const auto* copied =
      reinterpret_cast<const float*>(cache.pool(0) + second.tables[0][1] * cache.block_stride(0));
  EXPECT_EQ(copied[99 % 64], 42);
  // The one left alone with its block writes in place.
  const int32_t own = first.tables[0][1];
  grow(cache, first, 102);
  EXPECT_EQ(first.tables[0][1], own);
  cache.release(first);
  cache.release(second);
  for (int64_t g = 0; g < 3; ++g) EXPECT_EQ(cache.free_blocks(g), cache.total_blocks(g));
}

TEST(KvCache, ACutSharedBlockIsCopiedWhenItGrowsAgain) {
  KvCache cache = must(KvCache::create(caches(), 1024));
  Sequence first;
  grow(cache, first, 128);
  Sequence second = cache.fork(first);
  cache.truncate(second, 70);
  grow(cache, second, 80);
  EXPECT_NE(second.tables[0][1], first.tables[0][1]);
  cache.release(second);
  EXPECT_EQ(first.tables[0].size(), 2u);
  cache.release(first);
  EXPECT_EQ(cache.free_blocks(0), cache.total_blocks(0));
}

// Rows that trail behind, as a draft's do, may fill several blocks that another sequence shares.
TEST(KvCache, EveryBlockWrittenIntoIsTheSequencesOwn) {
  KvCache cache = must(KvCache::create(caches(), 1024));
  Sequence first;
  grow(cache, first, 200);
  Sequence second = cache.fork(first);
  ASSERT_TRUE(cache.reserve(second, 64, 200).ok());
  EXPECT_EQ(second.tables[0][0], first.tables[0][0]);
  for (size_t block = 1; block < 4; ++block) EXPECT_NE(second.tables[0][block], first.tables[0][block]);
  cache.release(first);
  cache.release(second);
  for (int64_t g = 0; g < 3; ++g) EXPECT_EQ(cache.free_blocks(g), cache.total_blocks(g));
}

TEST(KvCache, FullIsAnErrorThatTakesNothing) {
  KvCache cache = must(KvCache::create(caches(), 128));
  Sequence sequence;
  grow(cache, sequence, 100);
  EXPECT_EQ(cache.room(sequence), 28);
  const Status more = cache.reserve(sequence, 129);
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().code(), Code::kResource);
  cache.release(sequence);
  for (int64_t g = 0; g < 3; ++g) EXPECT_EQ(cache.free_blocks(g), cache.total_blocks(g));
}

}  // namespace
}  // namespace fettle
