#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/stream_steps.h"

namespace fettle {

namespace {

// Entries that stand for `rate` tokens each: values pooled under a softmax over the tokens, lane by lane,
// then normed and rotated to the position of the first of them. An entry of twice as wide inputs also covers
// the tokens of the entry before it, of which it takes the first halves. The cache keeps the rows [a | gate]
// that entries yet to come need, so that a sequence may be cut anywhere that they reach back to.
class CompressStep final : public Step {
 public:
  explicit CompressStep(CompressStepArgs args)
      : a_(std::move(args)),
        cols_(a_.a.type.cols),
        dim_(a_.out.type.cols),
        kernels_(find_elementwise_kernels(a_.isa)) {}

  bool begins_by_token() const override { return true; }
  int64_t scratch_floats() const override { return 2 * static_cast<int64_t>(a_.rope.inv_freq.size()); }

  void run(Run& run, int worker) override {
    store(run, worker);
    run.pool.barrier(worker);
    for_positions(run, worker, [&](const SequenceRows& s, int64_t r, int64_t position) {
      if ((position + 1) % a_.rate == 0)
        make_entry(s, position + 1 - a_.rate, a_.out.row(r), run.scratch[worker].data());
      else
        std::fill_n(a_.out.row(r), dim_, 0.0f);
    });
  }

 private:
  float* row(const SequenceRows& s, int64_t position) const {
    const int32_t* table = s.tables[static_cast<size_t>(a_.cache->group(a_.cache_index))].data();
    std::byte* block = a_.cache->pool(a_.cache_index) +
                       table[position / kBlockTokens] * a_.cache->block_stride(a_.cache_index);
    return reinterpret_cast<float*>(block) + position % kBlockTokens * 2 * cols_;
  }

  void store(const Run& run, int worker) const {
    for_positions(run, worker, [&](const SequenceRows& s, int64_t r, int64_t position) {
      float* to = row(s, position);
      std::memcpy(to, a_.a.row(r), static_cast<size_t>(cols_) * sizeof(float));
      kernels_.add(a_.gate.row(r), a_.shift.data() + position % a_.rate * cols_, cols_, to + cols_);
    });
  }

  void make_entry(const SequenceRows& s, int64_t first, float* out, float* angles) const {
    const bool overlaps = cols_ != dim_;
    const int64_t begin = overlaps ? std::max<int64_t>(0, first - a_.rate) : first;
    std::vector<const float*> values, gates;
    for (int64_t position = begin; position < first + a_.rate; ++position) {
      const float* lanes = row(s, position) + (overlaps && position >= first ? dim_ : 0);
      values.push_back(lanes);
      gates.push_back(lanes + cols_);
    }
    kernels_.softmax_pool(values.data(), gates.data(), static_cast<int64_t>(values.size()), dim_, out);
    kernels_.rms_norm(out, a_.gain.data(), a_.eps, dim_, out);
    const auto half = static_cast<int64_t>(a_.rope.inv_freq.size());
    rope_angles(a_.rope, first, angles);
    (a_.rope.pairs ? kernels_.rope_pairs : kernels_.rope_half)(out + a_.at, angles, angles + half, 2 * half);
  }

  CompressStepArgs a_;
  int64_t cols_, dim_;
  const ElementwiseKernels& kernels_;
};

}  // namespace

std::unique_ptr<Step> make_compress_step(CompressStepArgs args) {
  return std::make_unique<CompressStep>(std::move(args));
}

}  // namespace fettle
