#include <algorithm>

#include "runtime/gathered_attention.h"
#include "runtime/store_entries.h"
#include "runtime/stream_steps.h"

namespace fettle {

namespace {

// Attention over a sliding window and entries that stand for several tokens each. Both are copied side by
// side for each token, the window first; all heads share the copy.
class WindowAttentionStep final : public Step {
 public:
  WindowAttentionStep(WindowAttentionStepArgs args, const AttentionKernel& kernel)
      : a_(std::move(args)),
        kernel_(kernel),
        shape_(a_.cache->shape(a_.cache_index)),
        window_{a_.cache, a_.cache_index, kernel.write_kv, a_.kv, a_.kv},
        entries_{a_.cache,
                 a_.entry_cache_index,
                 kernel.write_kv,
                 a_.entries.value_or(Value{}),
                 a_.entries.value_or(Value{}),
                 a_.rate} {}

  bool begins_by_token() const override { return true; }
  int64_t scratch_floats() const override { return attention_scratch_floats(shape_, a_.heads); }

  void run(Run& run, int worker) override {
    window_.store(run, worker);
    if (a_.entries) entries_.store(run, worker);
    if (worker == 0) gathered_.resize(static_cast<size_t>(run.workers), {kernel_, shape_, a_.scale});
    run.pool.barrier(worker);
    // With fewer tokens than workers these share the heads of each.
    const int64_t parts = std::min((run.workers + run.tokens - 1) / run.tokens, a_.heads);
    const Slice mine = slice_of(run.tokens * parts, worker, run.workers);
    for (const SequenceRows& s : run.sequences)
      for (int64_t task = std::max(mine.begin, s.row_begin * parts);
           task < std::min(mine.end, (s.row_begin + s.count) * parts); ++task)
        attend(run, s, task / parts,
               slice_of(a_.heads, static_cast<int>(task % parts), static_cast<int>(parts)), worker);
  }

 private:
  CacheView view(const SequenceRows& s, int64_t index) const {
    return {a_.cache->pool(index), a_.cache->block_stride(index),
            s.tables[static_cast<size_t>(a_.cache->group(index))].data()};
  }

  void attend(Run& run, const SequenceRows& s, int64_t r, Slice heads, int worker) {
    const int64_t position = s.first_position + r - s.row_begin;
    GatheredAttention& gathered = gathered_[static_cast<size_t>(worker)];
    gathered.clear();
    gathered.add_range(view(s, a_.cache_index), std::max<int64_t>(0, position + 1 - a_.window), position + 1);
    if (a_.entries) add_entries(gathered, view(s, a_.entry_cache_index), r, (position + 1) / a_.rate);
    const float* sinks = a_.sinks.empty() ? nullptr : a_.sinks.data() + heads.begin;
    gathered.attend(a_.q.row(r) + heads.begin * shape_.k_dim, heads.end - heads.begin, sinks,
                    a_.out.row(r) + heads.begin * shape_.v_dim, run.scratch[worker].data());
  }

  void add_entries(GatheredAttention& gathered, const CacheView& entries, int64_t r, int64_t visible) const {
    if (!a_.chosen) return gathered.add_range(entries, 0, visible);
    const auto* chosen = reinterpret_cast<const int32_t*>(a_.chosen->data) + r * a_.chosen->type.cols;
    for (int64_t i = 0; i < a_.chosen->type.cols && chosen[i] >= 0; ++i) gathered.add(entries, chosen[i]);
  }

  WindowAttentionStepArgs a_;
  const AttentionKernel& kernel_;
  KvShape shape_;
  EntryStore window_, entries_;
  std::vector<GatheredAttention> gathered_;  // by worker
};

}  // namespace

Result<std::unique_ptr<Step>> make_window_attention_step(WindowAttentionStepArgs args) {
  const KvType type = args.cache->shape(args.cache_index).type;
  const AttentionKernel* kernel = find_attention_kernel(type, args.isa);
  if (!kernel) return unsupported("no attention kernel for a cache of {}", kv_type_name(type));
  if (args.entries && args.cache->shape(args.entry_cache_index).type != type)
    return unsupported("entries are kept as {}, the window as {}; expected one type",
                       kv_type_name(args.cache->shape(args.entry_cache_index).type), kv_type_name(type));
  return std::unique_ptr<Step>(std::make_unique<WindowAttentionStep>(std::move(args), *kernel));
}

}  // namespace fettle
