#include <algorithm>
#include <cstring>

#include "runtime/step.h"

namespace fettle {

namespace {

uint64_t aligned(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1.2) in its absorbed form: every
// head's key matrix goes into its query, so that all heads attend over the one latent, and its value matrix
// comes after. The cache holds the latent and the shared rotated key, nothing else.
class LatentAttentionStep final : public Step {
 public:
  LatentAttentionStep(LatentAttentionStepArgs args, std::unique_ptr<Step> attention, const LatentWork& work)
      : a_(std::move(args)),
        attention_(std::move(attention)),
        work_(work),
        quantise_(find_quantise_row(activation_of(a_.inner_form), a_.isa)),
        latent_(a_.key.n),
        plain_(a_.key.k),
        rotated_(a_.p.type.cols) {}

  int64_t scratch_floats() const override { return attention_->scratch_floats(); }

  void run(Run& run, int worker) override {
    place_inputs(run, worker);
    run.pool.barrier(worker);
    multiply(run, worker, a_.key, {work_.q, a_.heads * width(), width()});
    run.pool.barrier(worker);
    attention_->run(run, worker);
    run.pool.barrier(worker);
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      for (int64_t h = 0; h < a_.heads; ++h)
        quantise_(work_.sums + (r * a_.heads + h) * latent_, latent_, input(run, h, latent_), run.tokens, r);
    });
    run.pool.barrier(worker);
    multiply(run, worker, a_.value, {a_.out.row(0), a_.out.ld, a_.value.n});
  }

 private:
  struct Output {
    float* data;
    int64_t ld, head_stride;
  };

  int64_t width() const { return latent_ + rotated_; }
  // The rounded input of one head's matrix.
  std::byte* input(const Run& run, int64_t head, int64_t k) const {
    const auto bytes = static_cast<int64_t>(
        aligned(static_cast<uint64_t>(activation_bytes(activation_of(a_.inner_form), run.tokens, k))));
    return work_.inputs + head * bytes;
  }

  // Rows are split into what each head's matrix reads and what attention reads as it is.
  void place_inputs(const Run& run, int worker) const {
    const auto floats = [](int64_t n) { return static_cast<size_t>(n) * sizeof(float); };
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      float* key = work_.keys + r * width();
      std::memcpy(key, a_.c.row(r), floats(latent_));
      std::memcpy(key + latent_, a_.p.row(r), floats(rotated_));
      for (int64_t h = 0; h < a_.heads; ++h) {
        const float* q = a_.q.row(r) + h * (plain_ + rotated_);
        quantise_(q, plain_, input(run, h, plain_), run.tokens, r);
        std::memcpy(work_.q + (r * a_.heads + h) * width() + latent_, q + plain_, floats(rotated_));
      }
    });
  }

  // One piece of work: some tiles of one head's matrix.
  void multiply(const Run& run, int worker, const BoundLinear& linear, const Output& out) const {
    const int64_t tiles = tile_count(linear.n);
    const Slice mine = slice_of(a_.heads * tiles, worker, run.workers);
    for (int64_t at = mine.begin; at < mine.end;) {
      const int64_t head = at / tiles, begin = at % tiles, end = std::min(tiles, begin + mine.end - at);
      linear.kernel(run.tokens)({.weight = linear.weight.data + head * linear.weight.member_bytes,
                                 .n = linear.n,
                                 .k = linear.k,
                                 .x = input(run, head, linear.k),
                                 .t = run.tokens,
                                 .y = out.data + head * out.head_stride,
                                 .ldy = out.ld,
                                 .bias = nullptr,
                                 .accumulate = false,
                                 .tile_begin = begin,
                                 .tile_end = end});
      at += end - begin;
    }
  }

  LatentAttentionStepArgs a_;
  std::unique_ptr<Step> attention_;
  LatentWork work_;
  QuantiseRowFn quantise_;
  int64_t latent_, plain_, rotated_;
};

Value floats_at(float* data, int64_t cols) {
  return {{Form::kF32, Rows::kTokens, cols}, reinterpret_cast<std::byte*>(data), cols};
}

}  // namespace

LatentWork place_latent_work(const LatentShape& s, int64_t rows, std::byte* base) {
  WorkPlacer placer(base);
  LatentWork work{};
  work.q = placer.take_array<float>(rows * s.heads * (s.latent + s.rotated));
  work.keys = placer.take_array<float>(rows * (s.latent + s.rotated));
  work.sums = placer.take_array<float>(rows * s.heads * s.latent);
  const int64_t widest = std::max(s.latent, s.plain);
  work.inputs = placer.take(static_cast<uint64_t>(s.heads) *
                            aligned(static_cast<uint64_t>(activation_bytes(s.inner, rows, widest))));
  work.bytes = placer.used();
  return work;
}

Result<std::unique_ptr<Step>> make_latent_attention_step(LatentAttentionStepArgs args) {
  const int64_t width = args.key.n + args.p.type.cols;
  const LatentWork work = place_latent_work(
      {args.heads, args.key.n, args.p.type.cols, args.key.k, activation_of(args.inner_form)}, args.max_rows,
      args.work);
  const AttentionStepArgs inner = {.q = floats_at(work.q, args.heads * width),
                                   .k = floats_at(work.keys, width),
                                   .v = floats_at(work.keys, width),
                                   .out = floats_at(work.sums, args.heads * args.key.n),
                                   .heads = args.heads,
                                   .scale = args.scale,
                                   .cache = args.cache,
                                   .cache_index = args.cache_index,
                                   .isa = args.isa};
  TRY(auto attention,
      args.chosen ? make_gathered_attention_step(inner, *args.chosen) : make_attention_step(inner));
  return std::unique_ptr<Step>(
      std::make_unique<LatentAttentionStep>(std::move(args), std::move(attention), work));
}

}  // namespace fettle
