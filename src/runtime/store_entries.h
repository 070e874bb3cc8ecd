// Storing what tokens leave in a cache of entries.
#pragma once

#include "runtime/step.h"

namespace fettle {

struct EntryStore {
  KvCache* cache;
  int64_t cache_index;
  WriteKvFn write_kv;
  Value k, v;  // v is not read of a latent cache
  int64_t rate = 1;

  const int32_t* table(const SequenceRows& s) const {
    return s.tables[static_cast<size_t>(cache->group(cache_index))].data();
  }
  // Each worker its own tokens: k and v of those that close an entry.
  void store(const Run& run, int worker) const {
    for_positions(run, worker, [&](const SequenceRows& s, int64_t r, int64_t position) {
      if ((position + 1) % rate != 0) return;
      const int64_t entry = position / rate;
      std::byte* block =
          cache->pool(cache_index) + table(s)[entry / kBlockTokens] * cache->block_stride(cache_index);
      write_kv(cache->shape(cache_index), k.row(r), v.row(r), block, entry % kBlockTokens);
    });
  }
};

}  // namespace fettle
