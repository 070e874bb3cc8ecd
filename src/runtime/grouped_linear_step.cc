#include <algorithm>

#include "runtime/stream_steps.h"

namespace fettle {

namespace {

uint64_t group_bytes(const GroupedLinearShape& shape, int64_t rows) {
  return (static_cast<uint64_t>(activation_bytes(shape.inner, rows, shape.cols)) + 63) / 64 * 64;
}

// A matrix for each group of columns: the groups' inputs are rounded into buffers of their own, then tiles of
// all matrices are shared out.
class GroupedLinearStep final : public Step {
 public:
  explicit GroupedLinearStep(GroupedLinearStepArgs args)
      : a_(std::move(args)),
        shape_{a_.groups, a_.linear.k, activation_of(a_.inner_form)},
        quantise_(find_quantise_row(shape_.inner, a_.isa)) {}

  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(a_.x.type);
    for_rows(run, a_.x.type, worker, [&](int64_t r) {
      for (int64_t g = 0; g < a_.groups; ++g)
        quantise_(a_.x.row(r) + g * a_.linear.k, a_.linear.k, input(rows, g), rows, r);
    });
    run.pool.barrier(worker);
    if (rows == 0) return;
    const int64_t tiles = tile_count(a_.linear.n);
    const Slice mine = slice_of(a_.groups * tiles, worker, run.workers);
    for (int64_t at = mine.begin; at < mine.end;) {
      const int64_t group = at / tiles, begin = at % tiles, end = std::min(tiles, begin + mine.end - at);
      a_.linear.kernel(rows)({.weight = a_.linear.weight.data + group * a_.linear.weight.member_bytes,
                              .n = a_.linear.n,
                              .k = a_.linear.k,
                              .x = input(rows, group),
                              .t = rows,
                              .y = a_.out.row(0) + group * a_.linear.n,
                              .ldy = a_.out.ld,
                              .bias = nullptr,
                              .accumulate = false,
                              .tile_begin = begin,
                              .tile_end = end});
      at += end - begin;
    }
  }

 private:
  std::byte* input(int64_t rows, int64_t group) const {
    return a_.work + group * static_cast<int64_t>(group_bytes(shape_, rows));
  }

  GroupedLinearStepArgs a_;
  GroupedLinearShape shape_;
  QuantiseRowFn quantise_;
};

}  // namespace

uint64_t grouped_linear_work_bytes(const GroupedLinearShape& shape, int64_t rows) {
  return static_cast<uint64_t>(shape.groups) * group_bytes(shape, rows);
}

std::unique_ptr<Step> make_grouped_linear_step(GroupedLinearStepArgs args) {
  return std::make_unique<GroupedLinearStep>(std::move(args));
}

}  // namespace fettle
