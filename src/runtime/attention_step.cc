#include <algorithm>

#include "runtime/step.h"

namespace fettle {

namespace {

constexpr int64_t kTileTokens =
    16;  // tokens of one task; shares each loaded K and V among tokens and query heads
constexpr int64_t kLeastHeads = 4;  // of one task, where there are more: they share each loaded K and V

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Stores K and V of the new tokens, then attends. Work is shared out by (sequence, kv head, tile of tokens);
// where that leaves workers idle, also by splits of positions, merged afterwards, and by tiles of the query
// heads that share a kv head. All ways give the same bits.
class AttentionStep final : public Step {
 public:
  AttentionStep(const AttentionStepArgs& args, const AttentionKernel& kernel)
      : a_(args),
        kernel_(kernel),
        shape_(args.cache->shape(args.cache_index)),
        group_(args.heads / shape_.kv_heads),
        partial_row_(2 + shape_.v_dim) {}

  int64_t scratch_floats() const override { return attention_scratch_floats(shape_, a_.heads); }
  bool begins_by_token() const override { return true; }

  void run(Run& run, int worker) override {
    if (!a_.stored) store(run, worker);
    if (worker == 0) make_tasks(run);
    run.pool.barrier(worker);
    float* scratch = run.scratch[worker].data();
    for (size_t i = static_cast<size_t>(worker); i < tasks_.size(); i += static_cast<size_t>(run.workers))
      attend(run, tasks_[i], scratch, worker);
    if (split_positions_) {
      run.pool.barrier(worker);
      merge_all(run, worker);
    }
  }

 private:
  struct Task {
    const SequenceRows* sequence;
    int64_t first_head, heads;  // all of one kv head
    int64_t token_begin, token_end, split_begin, split_end;
    int64_t partial;  // offset into shared_, or -1: private partials

    int64_t rows() const { return (token_end - token_begin) * heads; }
  };

  void store(Run& run, int worker) {
    const Slice mine = slice_of(run.tokens, worker, run.workers);
    for (const SequenceRows& s : run.sequences) {
      const int64_t begin = std::max(mine.begin, s.row_begin),
                    end = std::min(mine.end, s.row_begin + s.count);
      for (int64_t r = begin; r < end; ++r) {
        const int64_t position = s.first_position + r - s.row_begin;
        kernel_.write_kv(shape_, a_.k.row(r), a_.v.row(r), s.block(*a_.cache, a_.cache_index, position),
                         position % kBlockTokens);
      }
    }
  }

  const int32_t* table(const SequenceRows& s) const {
    return s.tables[static_cast<size_t>(a_.cache->group(a_.cache_index))].data();
  }

  static int64_t splits_of(const SequenceRows& s) { return ceil_div(s.end_position(), kSplitTokens); }

  // Query heads of a task. Every tile of them reads the past anew, so there is more than one only where
  // positions do not keep the workers busy.
  int64_t tile_heads(const Run& run, int64_t tasks) const {
    if (tasks >= 2 * run.workers) return group_;
    return std::max(std::min(kLeastHeads, group_), ceil_div(group_, ceil_div(2 * run.workers, tasks)));
  }

  void make_tasks(const Run& run) {
    tasks_.clear();
    int64_t whole = 0, split = 0, longest = 1;
    for (const SequenceRows& s : run.sequences) {
      const int64_t tiles = shape_.kv_heads * ceil_div(s.count, kTileTokens);
      whole += tiles;
      split += tiles * splits_of(s);
      longest = std::max(longest, splits_of(s));
    }
    split_positions_ = longest > 1 && whole < 4 * run.workers;
    const int64_t heads = tile_heads(run, split_positions_ ? split : whole);
    partial_floats_ = 0;
    for (const SequenceRows& s : run.sequences)
      for (int64_t t = 0; t < s.count; t += kTileTokens)
        add_tasks({&s, 0, heads, t, std::min(t + kTileTokens, s.count), 0, splits_of(s), -1});
    // Long tasks first would balance better, but a fixed order keeps neighbours' cache lines together.
    if (static_cast<int64_t>(shared_.size()) < partial_floats_)
      shared_.resize(static_cast<size_t>(partial_floats_));
    private_.resize(static_cast<size_t>(run.workers));
  }

  // Of a tile of tokens: tiles of `whole.heads` heads. Those of one split go side by side, so that workers
  // get equal parts and read the same positions at the same time.
  void add_tasks(const Task& whole) {
    const int64_t splits = whole.split_end, before = partial_floats_,
                  head_floats = (whole.token_end - whole.token_begin) * partial_row_;
    for (int64_t p = 0; p < (split_positions_ ? splits : 1); ++p)
      for (int64_t h = 0; h < a_.heads;) {
        Task task = whole;
        task.first_head = h;
        task.heads = std::min(whole.heads, group_ - h % group_);
        if (split_positions_) {
          task.split_begin = p;
          task.split_end = p + 1;
          task.partial = before + (h * splits + p * task.heads) * head_floats;
          partial_floats_ += task.heads * head_floats;
        }
        tasks_.push_back(task);
        h += task.heads;
      }
  }

  // The kernel sees the task's heads as all there are, over one kv head.
  AttentionArgs kernel_args(const SequenceRows& s, const Task& task, float* scratch) const {
    const int64_t kv_head = task.first_head / group_;
    KvShape one = shape_;
    one.kv_heads = 1;
    return {.kv = one,
            .heads = task.heads,
            .scale = a_.scale,
            .q = a_.q.row(s.row_begin) + task.first_head * shape_.k_dim,
            .q_stride = a_.q.ld,
            .out = a_.out.row(s.row_begin) + task.first_head * shape_.v_dim,
            .out_stride = a_.out.ld,
            .pool = a_.cache->pool(a_.cache_index) + kv_head * kv_block_bytes(one),
            .block_stride = a_.cache->block_stride(a_.cache_index),
            .table = table(s),
            .first_position = s.first_position,
            .kv_head = 0,
            .token_begin = task.token_begin,
            .token_end = task.token_end,
            .split = task.split_begin,
            .partial = nullptr,
            .scratch = scratch};
  }

  void attend(const Run&, const Task& task, float* scratch, int worker) {
    AttentionArgs args = kernel_args(*task.sequence, task, scratch);
    const int64_t rows = task.rows();
    if (task.partial >= 0) {
      args.partial = shared_.data() + task.partial;
      kernel_.run(args);
      return;
    }
    const int64_t splits = task.split_end;
    if (splits == 1) {
      kernel_.run(args);
      return;
    }
    std::vector<float>& partials = private_[static_cast<size_t>(worker)];
    const int64_t needed = splits * rows * partial_row_;
    if (static_cast<int64_t>(partials.size()) < needed) partials.resize(static_cast<size_t>(needed));
    for (int64_t p = 0; p < splits; ++p) {
      args.split = p;
      args.partial = partials.data() + p * rows * partial_row_;
      kernel_.run(args);
    }
    merge_tile(task, partials.data());
  }

  // The partials of one tile: splits one after the other, each [tokens, heads, 2 + v_dim].
  void merge_tile(const Task& task, const float* partials) const {
    const SequenceRows& s = *task.sequence;
    const int64_t stride = task.rows() * partial_row_;
    for (int64_t t = task.token_begin; t < task.token_end; ++t) {
      const int64_t splits =
          (s.first_position + t) / kSplitTokens + 1;  // later splits hold no position of this row
      for (int64_t h = 0; h < task.heads; ++h)
        merge_splits(partials + ((t - task.token_begin) * task.heads + h) * partial_row_, stride, splits,
                     shape_.v_dim, a_.out.row(s.row_begin + t) + (task.first_head + h) * shape_.v_dim);
    }
  }

  void merge_all(const Run& run, int worker) const {
    int64_t tile = 0;
    for (const Task& task : tasks_)
      if (task.split_begin == 0 && tile++ % run.workers == worker)
        merge_tile(task, shared_.data() + task.partial);
  }

  AttentionStepArgs a_;
  const AttentionKernel& kernel_;
  KvShape shape_;
  int64_t group_, partial_row_;
  std::vector<Task> tasks_;
  std::vector<float> shared_;
  std::vector<std::vector<float>> private_;  // by worker
  int64_t partial_floats_ = 0;               // of all tasks, in shared_
  bool split_positions_ = false;
};

}  // namespace

Result<std::unique_ptr<Step>> make_attention_step(const AttentionStepArgs& args) {
  const KvType type = args.cache->shape(args.cache_index).type;
  const AttentionKernel* kernel = find_attention_kernel(type, args.isa);
  if (!kernel) return unsupported("no attention kernel for a cache of {}", kv_type_name(type));
  return std::unique_ptr<Step>(std::make_unique<AttentionStep>(args, *kernel));
}

}  // namespace fettle
