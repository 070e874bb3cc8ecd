#include <algorithm>

#include "kernels/index/index.h"
#include "runtime/store_entries.h"

namespace fettle {

namespace {

constexpr int64_t kTileTokens = 8;   // tokens that are scored against a block of keys while it is close
constexpr int64_t kTaskBlocks = 16;  // of keys, where tasks share out the past

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Stores the keys of tokens that close an entry, then scores and chooses. Work is shared out by tiles of
// tokens; where these are too few for the workers, also by stretches of the past, and tokens are shared out
// again to choose. Both ways give the same bits. Tokens that see no more than `top` entries see all of them,
// unscored.
class IndexStep final : public Step {
 public:
  IndexStep(const IndexStepArgs& args, const IndexKernel& kernel)
      : a_(args),
        kernel_(kernel),
        store_{args.cache, args.cache_index, kernel.write_kv, args.k, {}, args.rate},
        shape_(args.cache->shape(args.cache_index)) {}

  int64_t scratch_floats() const override { return index_scratch_floats(shape_, a_.heads, kTileTokens); }
  bool begins_by_token() const override { return true; }

  void run(Run& run, int worker) override {
    store_.store(run, worker);
    if (worker == 0) make_tasks(run);
    run.pool.barrier(worker);
    float* scratch = run.scratch[worker].data();
    for (size_t i = static_cast<size_t>(worker); i < tasks_.size(); i += static_cast<size_t>(run.workers)) {
      const Task& task = tasks_[i];
      const Scores scores = scores_of(task, worker);
      score(task, scores, scratch);
      for (int64_t t = task.begin; !share_past_ && t < task.end; ++t) choose(task, t, scores, worker);
    }
    if (share_past_) {
      run.pool.barrier(worker);
      choose_all(run, worker);
    }
  }

 private:
  // Tokens [begin, end) of a sequence, against some of the blocks of entries that they see.
  struct Task {
    const SequenceRows* sequence;
    int64_t begin, end, blocks, block_begin, block_end;
    int64_t shared;  // where its tokens' scores lie in shared_
  };
  // Of token begin, entry 0; the distance between tokens.
  struct Scores {
    float* data;
    int64_t stride;
  };

  int64_t visible(const SequenceRows& s, int64_t t) const { return (s.first_position + t + 1) / a_.rate; }
  int32_t* chosen(int64_t row) const { return reinterpret_cast<int32_t*>(a_.out.data) + row * a_.top; }

  // Blocks that tokens up to `end` need scores of.
  int64_t scored_blocks(const SequenceRows& s, int64_t end) const {
    const int64_t entries = visible(s, end - 1);
    return entries <= a_.top ? 0 : ceil_div(entries, kBlockTokens);
  }

  void make_tasks(const Run& run) {
    tasks_.clear();
    int64_t scored = 0, longest = 0, shared = 0;
    for (const SequenceRows& s : run.sequences) {
      for (int64_t t = 0; t < s.count; t += kTileTokens)
        scored += scored_blocks(s, std::min(t + kTileTokens, s.count)) > 0;
      longest = std::max(longest, scored_blocks(s, s.count));
    }
    share_past_ = longest > kTaskBlocks && scored < 2 * run.workers;
    for (const SequenceRows& s : run.sequences)
      for (int64_t t = 0; t < s.count; t += kTileTokens) {
        const int64_t end = std::min(t + kTileTokens, s.count), blocks = scored_blocks(s, end);
        const int64_t step = share_past_ ? kTaskBlocks : std::max<int64_t>(blocks, 1);
        for (int64_t b = 0; b < std::max<int64_t>(blocks, 1); b += step)
          tasks_.push_back({&s, t, end, blocks, b, std::min(b + step, blocks), shared});
        shared += (end - t) * blocks * kBlockTokens;
      }
    if (share_past_) grow(shared_, shared);
    private_.resize(static_cast<size_t>(run.workers));
    rooms_.resize(static_cast<size_t>(run.workers));
  }

  static void grow(std::vector<float>& v, int64_t size) {
    if (static_cast<int64_t>(v.size()) < size) v.resize(static_cast<size_t>(size));
  }

  Scores scores_of(const Task& task, int worker) {
    const int64_t stride = task.blocks * kBlockTokens;
    if (share_past_) return {shared_.data() + task.shared, stride};
    std::vector<float>& own = private_[static_cast<size_t>(worker)];
    grow(own, kTileTokens * stride);
    return {own.data(), stride};
  }

  void score(const Task& task, const Scores& scores, float* scratch) const {
    if (task.block_end <= task.block_begin) return;
    const int64_t row = task.sequence->row_begin + task.begin;
    kernel_.score({.kv = shape_,
                   .heads = a_.heads,
                   .scale = a_.scale,
                   .tokens = task.end - task.begin,
                   .q = a_.q.row(row),
                   .q_stride = a_.q.ld,
                   .w = a_.w.row(row),
                   .w_stride = a_.w.ld,
                   .pool = a_.cache->pool(a_.cache_index),
                   .block_stride = a_.cache->block_stride(a_.cache_index),
                   .table = store_.table(*task.sequence),
                   .block_begin = task.block_begin,
                   .block_end = task.block_end,
                   .scores = scores.data + task.block_begin * kBlockTokens,
                   .scores_stride = scores.stride,
                   .scratch = scratch});
  }

  void choose(const Task& task, int64_t t, const Scores& scores, int worker) {
    choose_entries(scores.data + (t - task.begin) * scores.stride, visible(*task.sequence, t), a_.top,
                   chosen(task.sequence->row_begin + t), rooms_[static_cast<size_t>(worker)]);
  }

  void choose_all(const Run& run, int worker) {
    for (const Task& task : tasks_)
      for (int64_t t = task.begin; task.block_begin == 0 && t < task.end; ++t)
        if ((task.sequence->row_begin + t) % run.workers == worker)
          choose(task, t, scores_of(task, worker), worker);
  }

  IndexStepArgs a_;
  const IndexKernel& kernel_;
  EntryStore store_;
  KvShape shape_;
  std::vector<Task> tasks_;
  bool share_past_ = false;
  std::vector<float> shared_;                // of every tile: [token][entry]
  std::vector<std::vector<float>> private_;  // by worker
  std::vector<ChoiceRoom> rooms_;            // by worker
};

}  // namespace

Result<std::unique_ptr<Step>> make_index_step(const IndexStepArgs& args) {
  const KvType type = args.cache->shape(args.cache_index).type;
  const IndexKernel* kernel = find_index_kernel(type, args.isa);
  if (!kernel) return unsupported("no index kernel for a cache of {}", kv_type_name(type));
  return std::unique_ptr<Step>(std::make_unique<IndexStep>(args, *kernel));
}

}  // namespace fettle
