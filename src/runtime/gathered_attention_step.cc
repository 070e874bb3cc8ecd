#include "runtime/gathered_attention.h"

#include <algorithm>

#include "runtime/store_entries.h"

namespace fettle {

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Stores the keys of the new tokens unless they are, then attends of each token over the positions chosen for
// it, and reads no others. Work is shared out by tokens; where these are few, by tiles of heads as well.
class GatheredAttentionStep final : public Step {
 public:
  GatheredAttentionStep(const AttentionStepArgs& args, const Value& chosen, const AttentionKernel& kernel)
      : a_(args),
        chosen_(chosen),
        kernel_(kernel),
        store_{args.cache, args.cache_index, kernel.write_kv, args.k, args.v},
        shape_(args.cache->shape(args.cache_index)) {}

  int64_t scratch_floats() const override { return attention_scratch_floats(shape_, a_.heads); }
  bool begins_by_token() const override { return true; }

  void run(Run& run, int worker) override {
    if (!a_.stored) store_.store(run, worker);
    if (worker == 0)
      while (static_cast<int>(gathered_.size()) < run.workers)
        gathered_.emplace_back(kernel_, shape_, a_.scale);
    run.pool.barrier(worker);
    const int64_t tiles = std::min(a_.heads, ceil_div(2 * run.workers, run.tokens)),
                  tile = ceil_div(a_.heads, tiles);
    int64_t task = 0;
    for (const SequenceRows& s : run.sequences)
      for (int64_t r = s.row_begin; r < s.row_begin + s.count; ++r)
        for (int64_t h = 0; h < a_.heads; h += tile)
          if (task++ % run.workers == worker) attend(run, s, r, {h, std::min(h + tile, a_.heads)}, worker);
  }

 private:
  void attend(const Run& run, const SequenceRows& s, int64_t row, const Slice& heads, int worker) {
    GatheredAttention& gathered = gathered_[static_cast<size_t>(worker)];
    const CacheView view{a_.cache->pool(a_.cache_index), a_.cache->block_stride(a_.cache_index),
                         store_.table(s)};
    const auto* entries = reinterpret_cast<const int32_t*>(chosen_.data) + row * chosen_.type.cols;
    gathered.clear();
    for (int64_t i = 0; i < chosen_.type.cols && entries[i] >= 0; ++i) gathered.add(view, entries[i]);
    gathered.attend(a_.q.row(row) + heads.begin * shape_.k_dim, heads.end - heads.begin, nullptr,
                    a_.out.row(row) + heads.begin * shape_.v_dim, run.scratch[worker].data());
  }

  AttentionStepArgs a_;
  Value chosen_;
  const AttentionKernel& kernel_;
  EntryStore store_;
  KvShape shape_;
  std::vector<GatheredAttention> gathered_;  // by worker
};

}  // namespace

Result<std::unique_ptr<Step>> make_gathered_attention_step(const AttentionStepArgs& args,
                                                           const Value& chosen) {
  const KvType type = args.cache->shape(args.cache_index).type;
  const AttentionKernel* kernel = find_attention_kernel(type, args.isa);
  if (!kernel) return unsupported("no attention kernel for a cache of {}", kv_type_name(type));
  return std::unique_ptr<Step>(std::make_unique<GatheredAttentionStep>(args, chosen, *kernel));
}

}  // namespace fettle
