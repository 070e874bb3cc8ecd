#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace fettle {

namespace {

// Rows that are no keys lie in a block one after the other.
Result<KvShape> kv_shape(const CacheSpec& spec) {
  TRY(const KvType type, parse_kv_type(spec.type));
  const KvShape shape{type, spec.kv_heads, spec.k_dim, spec.v_dim, spec.kind != CacheKind::kFull};
  TRY_STATUS(check_kv_shape(shape));
  return shape;
}

int64_t blocks_for(int64_t entries) { return (entries + kBlockTokens - 1) / kBlockTokens; }

// Blocks of a group so that `tokens` positions always find room, whoever they belong to: every sequence may
// leave its last block half empty. Untouched blocks cost nothing.
int64_t blocks_of_group(int64_t tokens, int64_t rate, int64_t window) {
  constexpr int64_t kSequences = 256;
  const int64_t whole = blocks_for(tokens);
  if (window > 0) return std::min(whole, kSequences * (blocks_for(window + KvCache::kRewind) + 2));
  return rate == 1 ? whole : blocks_for((tokens + rate - 1) / rate) + std::min(whole, kSequences);
}

}  // namespace

void Sequence::expect_prompt(int64_t prompt_begin, int64_t tokens, int64_t grid) {
  expand_begin = grid > 0 ? (prompt_begin + grid - 1) / grid * grid : 0;
  expand_end = grid > 0 ? (length + tokens) / grid * grid : 0;
}

int64_t kv_bytes_per_token(const Graph& graph) {
  int64_t bytes = 0;
  for (const CacheSpec& c : graph.caches) {
    const auto shape = kv_shape(c);
    if (shape.ok() && c.window == 0) bytes += kv_block_bytes(*shape) / (kBlockTokens * c.rate);
  }
  return bytes;
}

int64_t kv_window_bytes(const Graph& graph) {
  int64_t bytes = 0, widest = 0;
  for (const CacheSpec& c : graph.caches) widest = std::max(widest, c.window);
  for (const CacheSpec& c : graph.caches) {
    const auto shape = kv_shape(c);
    if (shape.ok() && c.window > 0)
      bytes += kv_block_bytes(*shape) * (blocks_for(widest + KvCache::kRewind) + 1);
  }
  return bytes;
}

int64_t KvCache::group_of(const CacheSpec& spec) {
  const bool windowed = spec.window > 0;
  for (size_t g = 0; g < groups_.size(); ++g)
    if (groups_[g].rate == spec.rate && (groups_[g].window > 0) == windowed) {
      groups_[g].window = std::max(groups_[g].window, spec.window);
      return static_cast<int64_t>(g);
    }
  groups_.push_back({spec.rate, spec.window, 0, {}, {}});
  return static_cast<int64_t>(groups_.size()) - 1;
}

Result<KvCache> KvCache::create(const Graph& graph, int64_t tokens) {
  KvCache cache;
  cache.groups_.reserve(graph.caches.size() + 1);
  for (const CacheSpec& spec : graph.caches) {
    TRY(const KvShape shape, kv_shape(spec));
    cache.layers_.push_back({shape, 0, kv_block_bytes(shape), cache.group_of(spec)});
  }
  if (cache.groups_.empty()) cache.groups_.push_back({1, 0, 0, {}, {}});
  for (Group& group : cache.groups_) {
    group.total = std::max<int64_t>(1, blocks_of_group(tokens, group.rate, group.window));
    if (group.total > INT32_MAX) return make_error(Code::kUsage, "a cache of {} tokens is too large", tokens);
    for (int64_t b = group.total - 1; b >= 0; --b) group.free.push_back(static_cast<int32_t>(b));
    group.users.assign(static_cast<size_t>(group.total), 0);
  }
  int64_t offset = 0;
  for (Layer& layer : cache.layers_) {
    layer.offset = offset;
    int64_t all = 0;
    if (__builtin_mul_overflow(layer.block_bytes, cache.groups_[layer.group].total, &all) ||
        __builtin_add_overflow(offset, all, &offset))
      return make_error(Code::kResource, "a cache of {} tokens is too large; use a smaller context", tokens);
  }
  TRY(cache.memory_, HugeBuffer::allocate(static_cast<uint64_t>(offset)));
  return cache;
}

int64_t KvCache::first_kept(const Group& group, int64_t length) const {
  if (group.window == 0) return 0;
  return std::max<int64_t>(0, length - group.window - kRewind) / kBlockTokens;
}

void KvCache::give_back(Group& group, int32_t block) {
  if (block >= 0 && --group.users[static_cast<size_t>(block)] == 0) group.free.push_back(block);
}

void KvCache::copy_block(int64_t group, int32_t from, int32_t to) {
  for (const Layer& layer : layers_)
    if (layer.group == group)
      std::memcpy(memory_.data() + layer.offset + to * layer.block_bytes,
                  memory_.data() + layer.offset + from * layer.block_bytes,
                  static_cast<size_t>(layer.block_bytes));
}

std::vector<size_t> KvCache::shared_blocks(const Group& group, const std::vector<int32_t>& table,
                                           int64_t from) const {
  std::vector<size_t> shared;
  for (auto at = static_cast<size_t>(from / group.rate / kBlockTokens); at < table.size(); ++at)
    if (table[at] >= 0 && group.users[static_cast<size_t>(table[at])] > 1) shared.push_back(at);
  return shared;
}

Status KvCache::reserve(Sequence& sequence, int64_t from, int64_t length) {
  sequence.tables.resize(groups_.size());
  // What each group needs is known before anything is taken.
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    std::vector<int32_t>& table = sequence.tables[g];
    for (int64_t b = 0; b < std::min(first_kept(group, from), static_cast<int64_t>(table.size())); ++b) {
      give_back(group, table[static_cast<size_t>(b)]);
      table[static_cast<size_t>(b)] = -1;
    }
    const int64_t missing =
        std::max<int64_t>(0, blocks_for(length / group.rate) - static_cast<int64_t>(table.size())) +
        static_cast<int64_t>(shared_blocks(group, table, from).size());
    if (missing > static_cast<int64_t>(group.free.size()))
      return make_error(
          Code::kResource,
          "the cache is full: {} more blocks of {} tokens needed, {} of {} free; use a larger --context",
          missing, kBlockTokens * group.rate, group.free.size(), group.total);
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    std::vector<int32_t>& table = sequence.tables[g];
    const auto take = [&] {
      const int32_t block = group.free.back();
      group.free.pop_back();
      group.users[static_cast<size_t>(block)] = 1;
      return block;
    };
    // Blocks that entries are written into must be the sequence's own.
    for (const size_t at : shared_blocks(group, table, from)) {
      const int32_t own = take();
      copy_block(static_cast<int64_t>(g), table[at], own);
      give_back(group, std::exchange(table[at], own));
    }
    const int64_t wanted = blocks_for(length / group.rate);
    while (static_cast<int64_t>(table.size()) < wanted) table.push_back(take());
  }
  return {};
}

void KvCache::release(Sequence& sequence) { truncate(sequence, 0); }

void KvCache::truncate(Sequence& sequence, int64_t length) {
  CHECK(length <= sequence.length || sequence.length == 0, "{} > {}", length, sequence.length);
  CHECK(length == 0 || length >= rewind_limit(sequence), "{} of {}", length, sequence.length);
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    std::vector<int32_t>& table = sequence.tables[g];
    const size_t keep = static_cast<size_t>(blocks_for(length / groups_[g].rate));
    while (table.size() > keep) {
      give_back(groups_[g], table.back());
      table.pop_back();
    }
  }
  sequence.length = std::min(sequence.length, length);
  sequence.drafted = std::min(sequence.drafted, sequence.length);
  sequence.expand_end = std::min(sequence.expand_end, length);
}

int64_t KvCache::rewind_limit(const Sequence& sequence) const {
  int64_t limit = 0;
  for (size_t g = 0; g < sequence.tables.size(); ++g) {
    const std::vector<int32_t>& table = sequence.tables[g];
    int64_t lost = 0;
    while (lost < static_cast<int64_t>(table.size()) && table[static_cast<size_t>(lost)] < 0) ++lost;
    if (lost > 0) limit = std::max(limit, lost * kBlockTokens + groups_[g].window);
  }
  return std::min(limit, sequence.length);
}

Sequence KvCache::fork(const Sequence& sequence) {
  for (size_t g = 0; g < sequence.tables.size(); ++g)
    for (const int32_t block : sequence.tables[g])
      if (block >= 0) ++groups_[g].users[static_cast<size_t>(block)];
  return sequence;
}

int64_t KvCache::room(const Sequence& sequence) const {
  int64_t room = INT64_MAX;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    const int64_t held = g < sequence.tables.size() ? static_cast<int64_t>(sequence.tables[g].size()) : 0;
    // A window moves along: what it needs to go on is there once it is full.
    if (group.window > 0 && group.total >= blocks_for(group.window + kRewind) + 2) continue;
    const int64_t entries = (static_cast<int64_t>(group.free.size()) + held) * kBlockTokens;
    room = std::min(room, entries * group.rate + group.rate - 1 - sequence.length);
  }
  return std::max<int64_t>(room, 0);
}

}  // namespace fettle
