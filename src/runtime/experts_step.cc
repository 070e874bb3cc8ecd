#include <algorithm>
#include <cstring>

#include "runtime/step.h"

namespace fettle {

namespace {

// Rows are grouped by expert into "pairs" (row, expert), so that each expert's matrices are read once and
// multiplied as a real GEMM. Per row the experts' results are summed in the order of its routes, whatever
// shares the batch.
class ExpertsStep final : public Step {
 public:
  explicit ExpertsStep(ExpertsStepArgs args)
      : a_(std::move(args)),
        s_(a_.shape),
        work_(place_experts_work(s_, a_.max_rows, a_.work)),
        kernels_(find_elementwise_kernels(a_.isa)),
        quantise_inner_(find_quantise_row(s_.inner_form, a_.isa)) {}

  void run(Run& run, int worker) override {
    rows_ = run.rows(a_.x.type);
    if (worker == 0) group();
    run.pool.barrier(worker);
    gather(run, worker);
    run.pool.barrier(worker);
    multiply(run, worker, true);
    run.pool.barrier(worker);
    activate(run, worker);
    run.pool.barrier(worker);
    multiply(run, worker, false);
    run.pool.barrier(worker);
    combine(run, worker);
  }

 private:
  struct Group {
    int64_t expert, first_pair, pairs;
    std::byte *x, *h;  // activation buffers of `pairs` rows
  };

  const Route* routes(int64_t r) const { return reinterpret_cast<const Route*>(a_.routes.data) + r * s_.k; }

  void group() {
    std::vector<int64_t> count(static_cast<size_t>(s_.experts), 0);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t i = 0; i < s_.k; ++i) ++count[static_cast<size_t>(routes(r)[i].expert)];
    groups_.clear();
    std::vector<int64_t> next(count.size(), 0);
    std::byte *x = work_.gathered, *h = work_.inner;
    int64_t first = 0;
    for (int64_t e = 0; e < s_.experts; ++e) {
      const int64_t n = count[static_cast<size_t>(e)];
      next[static_cast<size_t>(e)] = first;
      if (n == 0) continue;
      groups_.push_back({e, first, n, x, h});
      first += n;
      x += activation_bytes(s_.x_form, n, a_.gate.k);
      h += activation_bytes(s_.inner_form, n, s_.inner);
    }
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t i = 0; i < s_.k; ++i) {
        const int64_t pair = next[static_cast<size_t>(routes(r)[i].expert)]++;
        work_.place[r * s_.k + i] = pair;
        work_.row[pair] = r;
        work_.weight[pair] = routes(r)[i].weight;
      }
  }

  void gather(const Run& run, int worker) {
    const Slice mine = slice_of(static_cast<int64_t>(groups_.size()), worker, run.workers);
    for (int64_t g = mine.begin; g < mine.end; ++g) {
      const Group& group = groups_[static_cast<size_t>(g)];
      for (int64_t p = 0; p < group.pairs; ++p) copy_row(work_.row[group.first_pair + p], group, p);
    }
  }

  void copy_row(int64_t from, const Group& group, int64_t to) const {
    const int64_t k = a_.gate.k;
    switch (s_.x_form) {
      case Activation::kF32:
        std::memcpy(group.x + to * k * 4, a_.x.row(from), static_cast<size_t>(k) * 4);
        return;
      case Activation::kBF16:
        std::memcpy(group.x + to * bf16_stride(k), a_.x.data + from * bf16_stride(k),
                    static_cast<size_t>(bf16_stride(k)));
        return;
      case Activation::kQ8G32:
        return copy_q8(q8g32_view(a_.x.data, rows_, k), from, q8g32_view(group.x, group.pairs, k), to);
      case Activation::kQ8T:
        return copy_q8(q8t_view(a_.x.data, rows_, k), from, q8t_view(group.x, group.pairs, k), to);
      case Activation::kF8G128:
      case Activation::kF8G128Ue8m0:
        return copy_f8(f8g128_view(a_.x.data, rows_, k), from, f8g128_view(group.x, group.pairs, k), to);
    }
  }
  static void copy_q8(const Q8View& from, int64_t r, const Q8View& to, int64_t p) {
    std::memcpy(to.codes + p * to.k_padded, from.codes + r * from.k_padded,
                static_cast<size_t>(from.k_padded));
    std::memcpy(to.scales + p * to.groups, from.scales + r * from.groups,
                static_cast<size_t>(from.groups) * 4);
    std::memcpy(to.sums + p * to.groups, from.sums + r * from.groups, static_cast<size_t>(from.groups) * 4);
  }
  static void copy_f8(const F8View& from, int64_t r, const F8View& to, int64_t p) {
    std::memcpy(to.codes + p * to.k_padded, from.codes + r * from.k_padded,
                static_cast<size_t>(from.k_padded));
    std::memcpy(to.scales + p * to.groups, from.scales + r * from.groups,
                static_cast<size_t>(from.groups) * 4);
  }
  static int64_t bf16_stride(int64_t k) {
    return activation_bytes(Activation::kBF16, 2, k) - activation_bytes(Activation::kBF16, 1, k);
  }

  // One piece of work: some tiles of one matrix of one expert.
  void multiply(const Run& run, int worker, bool first) {
    const int64_t tiles = first ? tile_count(s_.inner) : tile_count(a_.down.n);
    const int64_t matrices = first ? 2 : 1, total = static_cast<int64_t>(groups_.size()) * matrices * tiles;
    const Slice mine = slice_of(total, worker, run.workers);
    for (int64_t at = mine.begin; at < mine.end;) {
      const int64_t matrix = at / tiles, begin = at % tiles, end = std::min(tiles, begin + mine.end - at);
      const Group& group = groups_[static_cast<size_t>(matrix / matrices)];
      const bool up = first && matrix % 2 == 1;
      const BoundLinear& linear = !first ? a_.down : up ? a_.up : a_.gate;
      float* y = !first ? work_.down + group.first_pair * a_.down.n
                        : (up ? work_.up : work_.gate) + group.first_pair * s_.inner;
      linear.kernel(group.pairs)({.weight = linear.weight.data + group.expert * linear.weight.member_bytes,
                                  .n = linear.n,
                                  .k = linear.k,
                                  .x = first ? group.x : group.h,
                                  .t = group.pairs,
                                  .y = y,
                                  .ldy = first ? s_.inner : a_.down.n,
                                  .bias = nullptr,
                                  .accumulate = false,
                                  .tile_begin = begin,
                                  .tile_end = end});
      at += end - begin;
    }
  }

  void activate(const Run& run, int worker) {
    const Slice mine = slice_of(rows_ * s_.k, worker, run.workers);
    for (const Group& group : groups_)
      for (int64_t p = std::max(mine.begin, group.first_pair);
           p < std::min(mine.end, group.first_pair + group.pairs); ++p) {
        float* gate = work_.gate + p * s_.inner;
        const float* up = work_.up + p * s_.inner;
        if (a_.limit > 0)
          kernels_.silu_mul_limited(gate, up, a_.limit, s_.inner, gate);
        else
          kernels_.silu_mul(gate, up, s_.inner, gate);
        if (a_.early)
          for (int64_t i = 0; i < s_.inner; ++i) gate[i] *= work_.weight[p];
        quantise_inner_(gate, s_.inner, group.h, group.pairs, p - group.first_pair);
      }
  }

  void combine(const Run& run, int worker) {
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      float* y = a_.out.row(r);
      std::fill_n(y, a_.out.type.cols, 0.0f);
      for (int64_t i = 0; i < s_.k; ++i)
        kernels_.axpy(a_.early ? 1.0f : routes(r)[i].weight,
                      work_.down + work_.place[r * s_.k + i] * a_.down.n, a_.out.type.cols, y);
    });
  }

  ExpertsStepArgs a_;
  const ExpertsShape& s_;
  ExpertsWork work_;
  const ElementwiseKernels& kernels_;
  QuantiseRowFn quantise_inner_;
  int64_t rows_ = 0;
  std::vector<Group> groups_;
};

}  // namespace

ExpertsWork place_experts_work(const ExpertsShape& s, int64_t rows, std::byte* base) {
  const int64_t pairs = rows * s.k, slack = s.experts * 256;  // each expert's rows are padded by themselves
  WorkPlacer placer(base);
  ExpertsWork work{};
  work.gathered = placer.take(static_cast<uint64_t>(pairs * activation_bytes(s.x_form, 1, s.hidden) + slack));
  work.inner = placer.take(static_cast<uint64_t>(pairs * activation_bytes(s.inner_form, 1, s.inner) + slack));
  work.gate = placer.take_array<float>(pairs * s.inner);
  work.up = placer.take_array<float>(pairs * s.inner);
  work.down = placer.take_array<float>(pairs * s.out);
  work.place = placer.take_array<int64_t>(pairs);
  work.row = placer.take_array<int64_t>(pairs);
  work.weight = placer.take_array<float>(pairs);
  work.bytes = placer.used();
  return work;
}

std::unique_ptr<Step> make_experts_step(ExpertsStepArgs args) {
  return std::make_unique<ExpertsStep>(std::move(args));
}

}  // namespace fettle
