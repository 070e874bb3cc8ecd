#include <algorithm>
#include <cstring>

#include "runtime/expanded_attention.h"
#include "runtime/step.h"

namespace fettle {

namespace {

uint64_t aligned(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1.2). The cache holds the latent
// and the shared rotated key, nothing else. Rows of a prompt's whole cells take the expanded form; all others
// the absorbed one: every head's key matrix goes into its query, so that all heads attend over the one
// latent, and its value matrix comes after. The absorbed rows are gathered into work buffers.
class LatentAttentionStep final : public Step {
 public:
  LatentAttentionStep(std::unique_ptr<const LatentAttentionStepArgs> args, std::unique_ptr<Step> attention,
                      std::unique_ptr<ExpandedAttention> expanded, const LatentWork& work)
      : args_(std::move(args)),
        a_(*args_),
        attention_(std::move(attention)),
        expanded_(std::move(expanded)),
        work_(work),
        quantise_(find_quantise_row(activation_of(a_.inner_form), a_.isa)),
        kernel_(*find_attention_kernel(a_.cache->shape(a_.cache_index).type, a_.isa)),
        latent_(a_.key.n),
        plain_(a_.key.k),
        rotated_(a_.p.type.cols) {}

  int64_t scratch_floats() const override {
    const int64_t floats = std::max(attention_->scratch_floats(), width());
    return expanded_ ? std::max(floats, expanded_->scratch_floats()) : floats;
  }

  void run(Run& run, int worker) override {
    place_rows(run, worker);
    if (worker == 0) {
      gather_sequences(run);
      if (expanded_) expanded_->make_tasks(run);
    }
    run.pool.barrier(worker);
    if (expanded_) expanded_->run(run, worker);
    if (rows_ > 0) run_absorbed(run, worker);
  }

 private:
  struct Output {
    float* data;
    int64_t ld, head_stride;
  };

  int64_t width() const { return latent_ + rotated_; }
  Slice expanded(const SequenceRows& s) const { return expanded_ ? s.expanded : Slice{0, 0}; }
  int64_t absorbed_rows(const SequenceRows& s) const {
    return s.count - (expanded(s).end - expanded(s).begin);
  }
  // The rounded input of one head's matrix, of `rows` rows.
  std::byte* input(int64_t rows, int64_t head, int64_t k) const {
    const auto bytes = static_cast<int64_t>(
        aligned(static_cast<uint64_t>(activation_bytes(activation_of(a_.inner_form), rows, k))));
    return work_.inputs + head * bytes;
  }

  // Stores the latents; splits the absorbed rows into what each head's matrix reads and what attention reads
  // as it is.
  void place_rows(Run& run, int worker) const {
    const Slice mine = slice_of(run.tokens, worker, run.workers);
    float* key = run.scratch[worker].data();
    int64_t rows = 0, first = 0;
    for (const SequenceRows& s : run.sequences) rows += absorbed_rows(s);
    for (const SequenceRows& s : run.sequences) {
      const Slice other = expanded(s);
      for (int64_t r = std::max(mine.begin, s.row_begin); r < std::min(mine.end, s.row_begin + s.count);
           ++r) {
        const int64_t t = r - s.row_begin, position = s.first_position + t;
        std::copy_n(a_.c.row(r), latent_, key);
        std::copy_n(a_.p.row(r), rotated_, key + latent_);
        kernel_.write_kv(a_.cache->shape(a_.cache_index), key, key,
                         s.block(*a_.cache, a_.cache_index, position), position % kBlockTokens);
        if (t < other.begin)
          place_query(r, first + t, rows);
        else if (t >= other.end)
          place_query(r, first + t - (other.end - other.begin), rows);
      }
      first += absorbed_rows(s);
    }
  }
  void place_query(int64_t r, int64_t to, int64_t rows) const {
    for (int64_t h = 0; h < a_.heads; ++h) {
      const float* q = a_.q.row(r) + h * (plain_ + rotated_);
      quantise_(q, plain_, input(rows, h, plain_), rows, to);
      std::copy_n(q + plain_, rotated_, work_.q + (to * a_.heads + h) * width() + latent_);
    }
  }

  // The absorbed rows as a batch of their own.
  void gather_sequences(const Run& run) {
    absorbed_.clear();
    rows_ = 0;
    for (const SequenceRows& s : run.sequences) {
      const Slice other = expanded(s);
      const Slice whole{0, s.count}, before{0, other.begin}, after{other.end, s.count};
      const bool split = other.end > other.begin;
      for (const Slice& part : {split ? before : whole, split ? after : Slice{0, 0}}) {
        if (part.end <= part.begin) continue;
        absorbed_.push_back({rows_, part.end - part.begin, s.first_position + part.begin, s.tables});
        origins_.resize(absorbed_.size());
        origins_.back() = s.row_begin + part.begin;
        rows_ += part.end - part.begin;
      }
    }
  }

  void run_absorbed(const Run& run, int worker) {
    Run absorbed = run;
    absorbed.tokens = rows_;
    absorbed.sequences = absorbed_;
    multiply(run, worker, a_.key, {work_.q, a_.heads * width(), width()});
    run.pool.barrier(worker);
    attention_->run(absorbed, worker);
    run.pool.barrier(worker);
    for_rows(absorbed, a_.out.type, worker, [&](int64_t r) {
      for (int64_t h = 0; h < a_.heads; ++h)
        quantise_(work_.sums + (r * a_.heads + h) * latent_, latent_, input(rows_, h, latent_), rows_, r);
    });
    run.pool.barrier(worker);
    if (rows_ == run.tokens) return multiply(run, worker, a_.value, {a_.out.row(0), a_.out.ld, a_.value.n});
    const int64_t cols = a_.heads * a_.value.n;
    multiply(run, worker, a_.value, {work_.q, cols, a_.value.n});
    run.pool.barrier(worker);
    const Slice mine = slice_of(rows_, worker, run.workers);
    for (size_t i = 0; i < absorbed_.size(); ++i) {
      const SequenceRows& s = absorbed_[i];
      for (int64_t r = std::max(mine.begin, s.row_begin); r < std::min(mine.end, s.row_begin + s.count); ++r)
        std::copy_n(work_.q + r * cols, cols, a_.out.row(origins_[i] + r - s.row_begin));
    }
  }

  // One piece of work: some tiles of one head's matrix.
  void multiply(const Run& run, int worker, const BoundLinear& linear, const Output& out) const {
    const int64_t tiles = tile_count(linear.n);
    const Slice mine = slice_of(a_.heads * tiles, worker, run.workers);
    for (int64_t at = mine.begin; at < mine.end;) {
      const int64_t head = at / tiles, begin = at % tiles, end = std::min(tiles, begin + mine.end - at);
      linear.kernel(rows_)({.weight = linear.weight.data + head * linear.weight.member_bytes,
                            .n = linear.n,
                            .k = linear.k,
                            .x = input(rows_, head, linear.k),
                            .t = rows_,
                            .y = out.data + head * out.head_stride,
                            .ldy = out.ld,
                            .bias = nullptr,
                            .accumulate = false,
                            .tile_begin = begin,
                            .tile_end = end});
      at += end - begin;
    }
  }

  std::unique_ptr<const LatentAttentionStepArgs> args_;  // expanded_ refers to its matrices
  const LatentAttentionStepArgs& a_;
  std::unique_ptr<Step> attention_;
  std::unique_ptr<ExpandedAttention> expanded_;
  LatentWork work_;
  QuantiseRowFn quantise_;
  const AttentionKernel& kernel_;
  int64_t latent_, plain_, rotated_;
  std::vector<SequenceRows> absorbed_;
  std::vector<int64_t> origins_;  // rows of the run where those of absorbed_ begin
  int64_t rows_ = 0;              // absorbed
};

Value floats_at(float* data, int64_t cols) {
  return {{Form::kF32, Rows::kTokens, cols}, reinterpret_cast<std::byte*>(data), cols};
}

}  // namespace

LatentWork place_latent_work(const LatentShape& s, int64_t rows, std::byte* base) {
  WorkPlacer placer(base);
  LatentWork work{};
  work.q = placer.take_array<float>(rows * s.heads * std::max(s.latent + s.rotated, s.value));
  work.sums = placer.take_array<float>(rows * s.heads * s.latent);
  const int64_t widest = std::max(s.latent, s.plain);
  work.inputs = placer.take(static_cast<uint64_t>(s.heads) *
                            aligned(static_cast<uint64_t>(activation_bytes(s.inner, rows, widest))));
  work.bytes = placer.used();
  return work;
}

Result<std::unique_ptr<Step>> make_latent_attention_step(LatentAttentionStepArgs moved) {
  auto args = std::make_unique<const LatentAttentionStepArgs>(std::move(moved));
  const LatentAttentionStepArgs& a = *args;
  const int64_t width = a.key.n + a.p.type.cols;
  const LatentWork work = place_latent_work({.heads = a.heads,
                                             .latent = a.key.n,
                                             .rotated = a.p.type.cols,
                                             .plain = a.key.k,
                                             .value = a.value.n,
                                             .inner = activation_of(a.inner_form)},
                                            a.max_rows, a.work);
  const AttentionStepArgs inner = {.q = floats_at(work.q, a.heads * width),
                                   .k = {},
                                   .v = {},
                                   .out = floats_at(work.sums, a.heads * a.key.n),
                                   .heads = a.heads,
                                   .scale = a.scale,
                                   .cache = a.cache,
                                   .cache_index = a.cache_index,
                                   .isa = a.isa,
                                   .stored = true};
  TRY(auto attention, a.chosen ? make_gathered_attention_step(inner, *a.chosen) : make_attention_step(inner));
  std::unique_ptr<ExpandedAttention> expanded;
  if (a.key_rows && !a.chosen) {
    TRY(expanded, ExpandedAttention::create({.q = a.q,
                                             .out = a.out,
                                             .key_rows = *a.key_rows,
                                             .value = a.value,
                                             .heads = a.heads,
                                             .rotated = a.p.type.cols,
                                             .max_rows = a.max_rows,
                                             .scale = a.scale,
                                             .inner_form = a.inner_form,
                                             .cache = a.cache,
                                             .cache_index = a.cache_index,
                                             .isa = a.isa}));
  }
  return std::unique_ptr<Step>(std::make_unique<LatentAttentionStep>(std::move(args), std::move(attention),
                                                                     std::move(expanded), work));
}

}  // namespace fettle
