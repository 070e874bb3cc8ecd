#include <algorithm>
#include <cstring>
#include <numeric>

#include "runtime/step.h"

namespace fettle {

namespace {

class RouteStep final : public Step {
 public:
  RouteStep(const Value& scores, const Value& out, int64_t k, bool normalise, float scale, Isa isa)
      : scores_(scores),
        out_(out),
        k_(k),
        normalise_(normalise),
        scale_(scale),
        softmax_(find_elementwise_kernels(isa).softmax) {}
  int64_t scratch_floats() const override { return 2 * scores_.type.cols; }
  void run(Run& run, int worker) override {
    const int64_t experts = scores_.type.cols;
    float* p = run.scratch[worker].data();
    auto* order = reinterpret_cast<int32_t*>(p + experts);
    for_rows(run, scores_.type, worker, [&](int64_t r) {
      std::copy_n(scores_.row(r), experts, p);
      softmax_(p, experts);
      std::iota(order, order + experts, 0);
      std::partial_sort(order, order + k_, order + experts,
                        [p](int32_t a, int32_t b) { return p[a] != p[b] ? p[a] > p[b] : a < b; });
      float sum = 0;
      for (int64_t i = 0; i < k_; ++i) sum += p[order[i]];
      auto* routes = reinterpret_cast<Route*>(out_.data) + r * k_;
      for (int64_t i = 0; i < k_; ++i)
        routes[i] = {order[i], p[order[i]] * scale_ / (normalise_ ? sum : 1.0f)};
    });
  }

 private:
  Value scores_, out_;
  int64_t k_;
  bool normalise_;
  float scale_;
  decltype(ElementwiseKernels::softmax) softmax_;
};

// Rows are grouped by expert into "pairs" (row, expert), so that each expert's matrices are read once and
// multiplied as a real GEMM. Per row the experts' results are summed in the order of its routes, whatever
// shares the batch.
class ExpertsStep final : public Step {
 public:
  explicit ExpertsStep(ExpertsStepArgs args)
      : a_(std::move(args)), kernels_(find_elementwise_kernels(a_.isa)) {
    const int64_t pairs = a_.max_rows * a_.k;
    const auto floats = [](int64_t n) { return static_cast<size_t>(n); };
    x_bytes_ = activation_bytes(activation_of(a_.x.type.form), 1, a_.gate.k);
    h_bytes_ = activation_bytes(activation_of(a_.inner_form), 1, a_.inner);
    gathered_ = make_buffer(pairs * x_bytes_ + a_.experts * 256);
    inner_ = make_buffer(pairs * h_bytes_ + a_.experts * 256);
    gate_.resize(floats(pairs * a_.inner));
    up_.resize(floats(pairs * a_.inner));
    down_.resize(floats(pairs * a_.out.type.cols));
    place_of_route_.resize(floats(pairs));
    row_of_pair_.resize(floats(pairs));
    quantise_inner_ = find_quantise_row(activation_of(a_.inner_form), a_.isa);
  }

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

  static std::unique_ptr<std::byte[], void (*)(std::byte*)> make_buffer(int64_t bytes) {
    const size_t size = (static_cast<size_t>(bytes) + 63) / 64 * 64;
    return {static_cast<std::byte*>(std::aligned_alloc(64, std::max<size_t>(size, 64))),
            [](std::byte* p) { std::free(p); }};
  }

  const Route* routes(int64_t r) const { return reinterpret_cast<const Route*>(a_.routes.data) + r * a_.k; }

  void group() {
    std::vector<int64_t> count(static_cast<size_t>(a_.experts), 0);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t i = 0; i < a_.k; ++i) ++count[static_cast<size_t>(routes(r)[i].expert)];
    groups_.clear();
    std::vector<int64_t> next(count.size(), 0);
    std::byte *x = gathered_.get(), *h = inner_.get();
    int64_t first = 0;
    for (int64_t e = 0; e < a_.experts; ++e) {
      const int64_t n = count[static_cast<size_t>(e)];
      next[static_cast<size_t>(e)] = first;
      if (n == 0) continue;
      groups_.push_back({e, first, n, x, h});
      first += n;
      x += activation_bytes(activation_of(a_.x.type.form), n, a_.gate.k);
      h += activation_bytes(activation_of(a_.inner_form), n, a_.inner);
    }
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t i = 0; i < a_.k; ++i) {
        const int64_t pair = next[static_cast<size_t>(routes(r)[i].expert)]++;
        place_of_route_[static_cast<size_t>(r * a_.k + i)] = pair;
        row_of_pair_[static_cast<size_t>(pair)] = r;
      }
  }

  void gather(const Run& run, int worker) {
    const Slice mine = slice_of(static_cast<int64_t>(groups_.size()), worker, run.workers);
    for (int64_t g = mine.begin; g < mine.end; ++g) {
      const Group& group = groups_[static_cast<size_t>(g)];
      for (int64_t p = 0; p < group.pairs; ++p)
        copy_row(row_of_pair_[static_cast<size_t>(group.first_pair + p)], group, p);
    }
  }

  void copy_row(int64_t from, const Group& group, int64_t to) const {
    const int64_t k = a_.gate.k;
    switch (activation_of(a_.x.type.form)) {
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
    const int64_t tiles = first ? tile_count(a_.inner) : tile_count(a_.down.n);
    const int64_t matrices = first ? 2 : 1, total = static_cast<int64_t>(groups_.size()) * matrices * tiles;
    const Slice mine = slice_of(total, worker, run.workers);
    for (int64_t at = mine.begin; at < mine.end;) {
      const int64_t matrix = at / tiles, begin = at % tiles, end = std::min(tiles, begin + mine.end - at);
      const Group& group = groups_[static_cast<size_t>(matrix / matrices)];
      const bool up = first && matrix % 2 == 1;
      const BoundLinear& linear = !first ? a_.down : up ? a_.up : a_.gate;
      float* y = !first ? down_.data() + group.first_pair * a_.down.n
                        : (up ? up_ : gate_).data() + group.first_pair * a_.inner;
      linear.kernel(group.pairs)({.weight = linear.weight.data + group.expert * linear.weight.member_bytes,
                                  .n = linear.n,
                                  .k = linear.k,
                                  .x = first ? group.x : group.h,
                                  .t = group.pairs,
                                  .y = y,
                                  .ldy = first ? a_.inner : a_.down.n,
                                  .bias = nullptr,
                                  .accumulate = false,
                                  .tile_begin = begin,
                                  .tile_end = end});
      at += end - begin;
    }
  }

  void activate(const Run& run, int worker) {
    const Slice mine = slice_of(rows_ * a_.k, worker, run.workers);
    for (const Group& group : groups_)
      for (int64_t p = std::max(mine.begin, group.first_pair);
           p < std::min(mine.end, group.first_pair + group.pairs); ++p) {
        float* gate = gate_.data() + p * a_.inner;
        kernels_.silu_mul(gate, up_.data() + p * a_.inner, a_.inner, gate);
        quantise_inner_(gate, a_.inner, group.h, group.pairs, p - group.first_pair);
      }
  }

  void combine(const Run& run, int worker) {
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      float* y = a_.out.row(r);
      std::fill_n(y, a_.out.type.cols, 0.0f);
      for (int64_t i = 0; i < a_.k; ++i)
        kernels_.axpy(routes(r)[i].weight,
                      down_.data() + place_of_route_[static_cast<size_t>(r * a_.k + i)] * a_.down.n,
                      a_.out.type.cols, y);
    });
  }

  ExpertsStepArgs a_;
  const ElementwiseKernels& kernels_;
  QuantiseRowFn quantise_inner_ = nullptr;
  int64_t x_bytes_, h_bytes_, rows_ = 0;
  std::unique_ptr<std::byte[], void (*)(std::byte*)> gathered_{nullptr, nullptr}, inner_{nullptr, nullptr};
  std::vector<float> gate_, up_, down_;
  std::vector<int64_t> place_of_route_, row_of_pair_;
  std::vector<Group> groups_;
};

}  // namespace

std::unique_ptr<Step> make_route_step(const Value& scores, const Value& out, int64_t k, bool normalise,
                                      float scale, Isa isa) {
  return std::make_unique<RouteStep>(scores, out, k, normalise, scale, isa);
}
std::unique_ptr<Step> make_experts_step(ExpertsStepArgs args) {
  return std::make_unique<ExpertsStep>(std::move(args));
}

}  // namespace fettle
