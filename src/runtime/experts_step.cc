#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/step.h"

namespace fettle {

namespace {

// Rows of one expert that a worker multiplies at once: its copies of them stay in cache.
constexpr int64_t kRowsAtOnce = 256;

// Rows are grouped by expert into "pairs" (row, expert), so that each expert's matrices are read once and
// multiplied as a real GEMM. Tiles are shared out by the work in them: first those of gate and up, the same
// of both, then those of down. What a worker needs besides (who goes where, the rows of an expert side by
// side, their rounded inner values) it makes for itself: that is less than waiting for others. Per row the
// experts' results are summed in the order of its routes, whatever shares the batch.
class ExpertsStep final : public Step {
 public:
  explicit ExpertsStep(ExpertsStepArgs args)
      : a_(std::move(args)),
        s_(a_.shape),
        work_(place_experts_work(s_, a_.max_rows, a_.work)),
        kernels_(find_elementwise_kernels(a_.isa)),
        quantise_inner_(find_quantise_row(s_.inner_form, a_.isa)),
        rows_at_once_(std::min(kRowsAtOnce, a_.max_rows)) {}

  int64_t scratch_floats() const override { return (buffer_bytes() + 64) / 4 + s_.out; }

  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(a_.x.type);
    if (rows == 0) return;
    thread_local Groups groups;
    group(rows, &groups);
    const auto scratch = reinterpret_cast<uintptr_t>(run.scratch[worker].data());
    auto* buffer = reinterpret_cast<std::byte*>((scratch + 63) / 64 * 64);
    each_piece(groups, tile_count(s_.inner), run, worker,
               [&](const Piece& piece) { inner_values(groups, piece, rows, buffer); });
    run.pool.barrier(worker);
    each_piece(groups, tile_count(s_.out), run, worker, [&](const Piece& piece) { outputs(piece, buffer); });
    run.pool.barrier(worker);
    combine(run, worker, groups, reinterpret_cast<float*>(buffer + buffer_bytes()));
  }

 private:
  struct Group {
    int64_t expert, first_pair, pairs;
  };
  struct Groups {
    std::vector<Group> used;
    std::vector<int64_t> count;  // by expert; then the expert's next pair
    std::vector<int64_t> place;  // of each route among the pairs
    std::vector<int64_t> row;    // of each pair
    std::vector<float> weight;   // of each pair
  };
  // Some tiles of some rows of one expert.
  struct Piece {
    int64_t expert, first_pair, pairs, tile_begin, tile_end;
  };

  const Route* routes(int64_t r) const { return reinterpret_cast<const Route*>(a_.routes.data) + r * s_.k; }
  int64_t buffer_bytes() const {
    return std::max(activation_bytes(s_.x_form, rows_at_once_, a_.gate.k),
                    activation_bytes(s_.inner_form, rows_at_once_, s_.inner));
  }

  void group(int64_t rows, Groups* g) const {
    const Route* all = routes(0);
    const int64_t pairs = rows * s_.k;
    g->count.assign(static_cast<size_t>(s_.experts), 0);
    for (int64_t i = 0; i < pairs; ++i) ++g->count[static_cast<size_t>(all[i].expert)];
    g->used.clear();
    int64_t first = 0;
    for (int64_t e = 0; e < s_.experts; ++e) {
      const int64_t n = std::exchange(g->count[static_cast<size_t>(e)], first);
      if (n > 0) g->used.push_back({e, first, n});
      first += n;
    }
    for (auto* indices : {&g->place, &g->row}) indices->resize(static_cast<size_t>(pairs));
    g->weight.resize(static_cast<size_t>(pairs));
    for (int64_t i = 0; i < pairs; ++i) {
      const auto pair = static_cast<size_t>(g->count[static_cast<size_t>(all[i].expert)]++);
      g->place[static_cast<size_t>(i)] = static_cast<int64_t>(pair);
      g->row[pair] = i / s_.k;
      g->weight[pair] = all[i].weight;
    }
  }

  // Calls f(piece) for the worker's part of all experts' tiles, `tiles` of each.
  template <typename F>
  void each_piece(const Groups& groups, int64_t tiles, const Run& run, int worker, F f) const {
    // A tile's weights take as long to arrive from memory as so many rows to multiply.
    constexpr int64_t kLeastRows = 12;
    // Kernels take tiles by fours.
    constexpr int64_t kGrain = 4;
    int64_t total = 0, at = 0;
    for (const Group& g : groups.used) total += tiles * std::max(g.pairs, kLeastRows);
    const int64_t begin = total * worker / run.workers, end = total * (worker + 1) / run.workers;
    for (const Group& g : groups.used) {
      const int64_t cost = std::max(g.pairs, kLeastRows);
      const auto tile_at = [&](int64_t limit) {
        const int64_t tile = std::clamp((limit - at) / cost, int64_t{0}, tiles);
        return limit - at >= tiles * cost ? tiles : tile / kGrain * kGrain;
      };
      const int64_t first = tile_at(begin), last = tile_at(end);
      for (int64_t p = 0; p < g.pairs && first < last; p += rows_at_once_)
        f({g.expert, g.first_pair + p, std::min(rows_at_once_, g.pairs - p), first, last});
      at += tiles * cost;
    }
  }

  void multiply(const BoundLinear& linear, const Piece& piece, const std::byte* x, float* y) const {
    linear.kernel(piece.pairs)({.weight = linear.weight.data + piece.expert * linear.weight.member_bytes,
                                .n = linear.n,
                                .k = linear.k,
                                .x = x,
                                .t = piece.pairs,
                                .y = y + piece.first_pair * linear.n,
                                .ldy = linear.n,
                                .bias = nullptr,
                                .accumulate = false,
                                .tile_begin = piece.tile_begin,
                                .tile_end = piece.tile_end});
  }

  void inner_values(const Groups& groups, const Piece& piece, int64_t rows, std::byte* x) const {
    for (int64_t p = 0; p < piece.pairs; ++p)
      copy_row(groups.row[static_cast<size_t>(piece.first_pair + p)], rows, x, piece.pairs, p);
    multiply(a_.gate, piece, x, work_.gate);
    multiply(a_.up, piece, x, work_.up);
    const int64_t begin = piece.tile_begin * kTileRows,
                  count = std::min(s_.inner, piece.tile_end * kTileRows) - begin;
    for (int64_t p = piece.first_pair; p < piece.first_pair + piece.pairs; ++p) {
      float *gate = work_.gate + p * s_.inner + begin, *up = work_.up + p * s_.inner + begin;
      if (a_.limit > 0)
        kernels_.silu_mul_limited(gate, up, a_.limit, count, gate);
      else
        kernels_.silu_mul(gate, up, count, gate);
      if (a_.early)
        for (int64_t i = 0; i < count; ++i) gate[i] *= groups.weight[static_cast<size_t>(p)];
    }
  }

  void outputs(const Piece& piece, std::byte* h) const {
    for (int64_t p = 0; p < piece.pairs; ++p)
      quantise_inner_(work_.gate + (piece.first_pair + p) * s_.inner, s_.inner, h, piece.pairs, p);
    multiply(a_.down, piece, h, work_.down);
  }

  void combine(const Run& run, int worker, const Groups& groups, float* scratch) const {
    const int64_t d = a_.out.type.cols;
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      float* y = a_.accumulate ? scratch : a_.out.row(r);
      std::fill_n(y, d, 0.0f);
      for (int64_t i = 0; i < s_.k; ++i) {
        const int64_t pair = groups.place[static_cast<size_t>(r * s_.k + i)];
        kernels_.axpy(a_.early ? 1.0f : routes(r)[i].weight, work_.down + pair * s_.out, d, y);
      }
      if (a_.accumulate) kernels_.add(a_.out.row(r), y, d, a_.out.row(r));
    });
  }

  // Row `from` of x to row p of n.
  void copy_row(int64_t from, int64_t rows, std::byte* to, int64_t n, int64_t p) const {
    const int64_t k = a_.gate.k;
    switch (s_.x_form) {
      case Activation::kF32:
        std::memcpy(to + p * k * 4, a_.x.row(from), static_cast<size_t>(k) * 4);
        return;
      case Activation::kBF16: {
        const int64_t stride = bf16_row_stride(k) * 2;
        std::memcpy(to + p * stride, a_.x.data + from * stride, static_cast<size_t>(stride));
        return;
      }
      case Activation::kQ8G32:
        return copy_q8(q8g32_view(a_.x.data, rows, k), from, q8g32_view(to, n, k), p);
      case Activation::kQ8T:
        return copy_q8(q8t_view(a_.x.data, rows, k), from, q8t_view(to, n, k), p);
      case Activation::kF8G128:
      case Activation::kF8G128Ue8m0:
        return copy_f8(f8g128_view(a_.x.data, rows, k), from, f8g128_view(to, n, k), p);
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

  ExpertsStepArgs a_;
  const ExpertsShape& s_;
  ExpertsWork work_;
  const ElementwiseKernels& kernels_;
  QuantiseRowFn quantise_inner_;
  int64_t rows_at_once_;
};

}  // namespace

ExpertsWork place_experts_work(const ExpertsShape& s, int64_t rows, std::byte* base) {
  const int64_t pairs = rows * s.k;
  WorkPlacer placer(base);
  ExpertsWork work{};
  work.gate = placer.take_array<float>(pairs * s.inner);
  work.up = placer.take_array<float>(pairs * s.inner);
  work.down = placer.take_array<float>(pairs * s.out);
  work.bytes = placer.used();
  return work;
}

std::unique_ptr<Step> make_experts_step(ExpertsStepArgs args) {
  return std::make_unique<ExpertsStep>(std::move(args));
}

}  // namespace fettle
