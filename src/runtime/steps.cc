#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/linear/layout.h"
#include "runtime/step.h"

namespace fettle {

RowWriter::RowWriter(const Value& value, Isa isa) : value_(value), is_f32_(value.type.form == Form::kF32) {
  if (!is_f32_) quantise_ = find_quantise_row(activation_of(value.type.form), isa);
}

void RowStep::run(Run& run, int worker) {
  const Value& out = writer_.value();
  const int64_t rows = run.rows(out.type);
  float* scratch = run.scratch[worker].data();
  for_rows(run, out.type, worker, [&](int64_t r) { compute(r, rows, out.data, scratch); });
}

namespace {

class EmbedStep final : public Step {
 public:
  EmbedStep(StoredWeight table, const Value& out)
      : table_(std::move(table)), out_(out), cols_(table_.shape.back()) {
    row_bytes_ = row_bytes(table_.scheme, cols_);
    unpacked_floats_ = (row_bytes_ * kTileRows + 3) / 4;
  }
  int64_t scratch_floats() const override { return unpacked_floats_; }
  void run(Run& run, int worker) override {
    auto* rows = reinterpret_cast<std::byte*>(run.scratch[worker].data());
    for_rows(run, out_.type, worker, [&](int64_t r) {
      const int64_t id = run.ids[r];
      const std::byte* tile = table_.data + id / kTileRows * packed_tile_bytes(table_.scheme, cols_);
      const int64_t within = id % kTileRows;
      unpack_tile(table_.scheme, tile, within + 1, cols_, rows, row_bytes_);
      scheme_info(table_.scheme).decode_row(rows + within * row_bytes_, cols_, out_.row(r));
    });
  }

 private:
  StoredWeight table_;
  Value out_;
  int64_t cols_, row_bytes_, unpacked_floats_;
};

class RmsNormStep final : public RowStep {
 public:
  RmsNormStep(const Value& x, std::vector<float> gain, float eps, const Value& out, Isa isa)
      : RowStep(out, isa),
        x_(x),
        gain_(std::move(gain)),
        eps_(eps),
        norm_(find_elementwise_kernels(isa).rms_norm) {}
  int64_t scratch_floats() const override { return x_.type.cols; }
  bool begins_by_token() const override { return ends_by_token() && out().data == x_.data; }
  void compute(int64_t r, int64_t rows, std::byte* data, float* scratch) const override {
    const int64_t width = static_cast<int64_t>(gain_.size());
    float* y = writer_.target(r, scratch);
    for (int64_t begin = 0; begin < x_.type.cols; begin += width)
      norm_(x_.row(r) + begin, gain_.data(), eps_, width, y + begin);
    writer_.store(y, rows, r, data);
  }

 private:
  Value x_;
  std::vector<float> gain_;
  float eps_;
  decltype(ElementwiseKernels::rms_norm) norm_;
};

// Few columns, and few of them: no kernel of its own.
class LayerNormStep final : public RowStep {
 public:
  LayerNormStep(const Value& x, std::vector<float> gain, std::vector<float> bias, const Value& out, Isa isa,
                float eps)
      : RowStep(out, isa), x_(x), gain_(std::move(gain)), bias_(std::move(bias)), eps_(eps) {}
  int64_t scratch_floats() const override { return x_.type.cols; }
  void compute(int64_t r, int64_t rows, std::byte* data, float* scratch) const override {
    const float* x = x_.row(r);
    const int64_t n = x_.type.cols;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i];
    const double mean = sum / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + eps_);
    float* y = writer_.target(r, scratch);
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      y[i] = static_cast<float>((x[i] - mean) * factor) * gain_[at] + bias_[at];
    }
    writer_.store(y, rows, r, data);
  }

 private:
  Value x_;
  std::vector<float> gain_, bias_;
  double eps_;
};

class QuantiseStep final : public RowStep {
 public:
  QuantiseStep(const Value& x, const Value& out, Isa isa) : RowStep(out, isa), x_(x) {}
  void compute(int64_t r, int64_t rows, std::byte* data, float*) const override {
    writer_.store(x_.row(r), rows, r, data);
  }

 private:
  Value x_;
};

// Up to so many rows, every worker computes the linear's input for itself: that takes less than waiting for
// each other.
constexpr int64_t kOwnRows = 4;

class LinearStep final : public Step {
 public:
  explicit LinearStep(LinearStepArgs args)
      : x_(args.x),
        out_(args.out),
        producer_(std::move(args.producer)),
        segments_(std::move(args.segments)),
        accumulate_(args.accumulate) {
    for (const BoundLinear& s : segments_) tiles_ += tile_count(s.n);
    if (producer_) own_bytes_ = activation_bytes(activation_of(x_.type.form), kOwnRows, x_.type.cols);
  }
  int64_t scratch_floats() const override {
    return producer_ ? producer_->scratch_floats() + (own_bytes_ + 64) / 4 : 0;
  }
  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(x_.type);
    const Slice mine = slice_of(tiles_, worker, run.workers);
    ask_for_weights(mine.begin);
    const std::byte* x = input(run, rows, worker);
    int64_t first_tile = 0, column = 0;
    for (const BoundLinear& s : segments_) {
      const int64_t tiles = tile_count(s.n);
      const int64_t begin = std::max(mine.begin - first_tile, int64_t{0}),
                    end = std::min(mine.end - first_tile, tiles);
      if (begin < end && rows > 0)
        s.kernel(rows)({.weight = s.weight.data,
                        .n = s.n,
                        .k = s.k,
                        .x = x,
                        .t = rows,
                        .y = out_.row(0) + column,
                        .ldy = out_.ld,
                        .bias = s.bias.empty() ? nullptr : s.bias.data(),
                        .accumulate = accumulate_,
                        .tile_begin = begin,
                        .tile_end = end});
      first_tile += tiles;
      column += s.n;
    }
  }

 private:
  // The first weights arrive while the input is computed: 1.01x to 1.03x in decoding.
  void ask_for_weights(int64_t tile) const {
    constexpr int64_t kBytes = 8 << 10;
    for (const BoundLinear& s : segments_) {
      const int64_t tiles = tile_count(s.n);
      if (tile < tiles) {
        const std::byte* first = s.weight.data + tile * packed_tile_bytes(s.weight.scheme, s.k);
        for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(first + i);
        return;
      }
      tile -= tiles;
    }
  }

  const std::byte* input(Run& run, int64_t rows, int worker) {
    if (!producer_) return x_.data;
    if (rows > kOwnRows) {
      producer_->run(run, worker);
      run.pool.barrier(worker);
      return x_.data;
    }
    const auto scratch = reinterpret_cast<uintptr_t>(run.scratch[worker].data());
    auto* own = reinterpret_cast<std::byte*>((scratch + 63) / 64 * 64);
    for (int64_t r = 0; r < rows; ++r)
      producer_->compute(r, rows, own, reinterpret_cast<float*>(own + own_bytes_));
    return own;
  }

  Value x_, out_;
  std::unique_ptr<RowStep> producer_;
  std::vector<BoundLinear> segments_;
  bool accumulate_;
  int64_t tiles_ = 0, own_bytes_ = 0;
};

class RopeStep final : public Step {
 public:
  explicit RopeStep(const RopeStepArgs& args)
      : x_(args.x),
        out_(args.out),
        heads_(args.heads),
        at_(args.at),
        index_(args.index),
        half_(static_cast<int64_t>(args.rope.inv_freq.size())) {
    const ElementwiseKernels& kernels = find_elementwise_kernels(args.isa);
    rotate_ = args.rope.pairs ? kernels.rope_pairs : kernels.rope_half;
  }
  bool begins_by_token() const override { return out_.data == x_.data; }
  bool ends_by_token() const override { return true; }
  void run(Run& run, int worker) override {
    for_rows(run, x_.type, worker, [&](int64_t r) {
      const float* cosines = run.rope_tables[static_cast<size_t>(index_)].data() + r * 2 * half_;
      if (out_.data != x_.data)
        std::memcpy(out_.row(r), x_.row(r), sizeof(float) * static_cast<size_t>(x_.type.cols));
      const int64_t head = x_.type.cols / heads_;
      for (int64_t h = 0; h < heads_; ++h)
        rotate_(out_.row(r) + h * head + at_, cosines, cosines + half_, 2 * half_);
    });
  }

 private:
  Value x_, out_;
  int64_t heads_, at_, index_, half_;
  decltype(ElementwiseKernels::rope_half) rotate_;
};

class AddStep final : public Step {
 public:
  AddStep(const Value& a, const Value& b, const Value& out, Isa isa)
      : a_(a), b_(b), out_(out), add_(find_elementwise_kernels(isa).add) {}
  void run(Run& run, int worker) override {
    for_rows(run, a_.type, worker, [&](int64_t r) { add_(a_.row(r), b_.row(r), a_.type.cols, out_.row(r)); });
  }

 private:
  Value a_, b_, out_;
  decltype(ElementwiseKernels::add) add_;
};

class SiluMulStep final : public RowStep {
 public:
  SiluMulStep(const Value& gate, const Value& up, float limit, const Value& out, Isa isa)
      : RowStep(out, isa), gate_(gate), up_(up), limit_(limit), kernels_(find_elementwise_kernels(isa)) {}
  int64_t scratch_floats() const override { return gate_.type.cols; }
  void compute(int64_t r, int64_t rows, std::byte* data, float* scratch) const override {
    float* y = writer_.target(r, scratch);
    if (limit_ > 0)
      kernels_.silu_mul_limited(gate_.row(r), up_.row(r), limit_, gate_.type.cols, y);
    else
      kernels_.silu_mul(gate_.row(r), up_.row(r), gate_.type.cols, y);
    writer_.store(y, rows, r, data);
  }

 private:
  Value gate_, up_;
  float limit_;
  const ElementwiseKernels& kernels_;
};

class SelectRowsStep final : public Step {
 public:
  SelectRowsStep(const Value& x, const Value& out) : x_(x), out_(out) {}
  void run(Run& run, int worker) override {
    for_rows(run, out_.type, worker, [&](int64_t r) {
      std::memcpy(out_.row(r), x_.row(run.selected_rows[r]),
                  sizeof(float) * static_cast<size_t>(x_.type.cols));
    });
  }

 private:
  Value x_, out_;
};

class StateStep final : public Step {
 public:
  explicit StateStep(const Value& out) : out_(out) {}
  bool ends_by_token() const override { return true; }
  void run(Run& run, int worker) override {
    const int64_t cols = out_.type.cols;
    for_rows(run, out_.type, worker, [&](int64_t r) {
      std::memcpy(out_.row(r), run.states + r * cols, sizeof(float) * static_cast<size_t>(cols));
    });
  }

 private:
  Value out_;
};

class JoinStep final : public RowStep {
 public:
  JoinStep(const Value& a, const Value& b, const Value& out, Isa isa) : RowStep(out, isa), a_(a), b_(b) {}
  int64_t scratch_floats() const override { return out().type.cols; }
  void compute(int64_t r, int64_t rows, std::byte* data, float* scratch) const override {
    float* y = writer_.target(r, scratch);
    std::memcpy(y, a_.row(r), sizeof(float) * static_cast<size_t>(a_.type.cols));
    std::memcpy(y + a_.type.cols, b_.row(r), sizeof(float) * static_cast<size_t>(b_.type.cols));
    writer_.store(y, rows, r, data);
  }

 private:
  Value a_, b_;
};

}  // namespace

std::unique_ptr<Step> make_embed_step(StoredWeight table, const Value& out) {
  return std::make_unique<EmbedStep>(std::move(table), out);
}
std::unique_ptr<RowStep> make_rms_norm_step(const Value& x, std::vector<float> gain, float eps,
                                            const Value& out, Isa isa) {
  return std::make_unique<RmsNormStep>(x, std::move(gain), eps, out, isa);
}
std::unique_ptr<RowStep> make_layer_norm_step(const Value& x, std::vector<float> gain,
                                              std::vector<float> bias, float eps, const Value& out, Isa isa) {
  return std::make_unique<LayerNormStep>(x, std::move(gain), std::move(bias), out, isa, eps);
}
std::unique_ptr<RowStep> make_quantise_step(const Value& x, const Value& out, Isa isa) {
  return std::make_unique<QuantiseStep>(x, out, isa);
}
std::unique_ptr<Step> make_linear_step(LinearStepArgs args) {
  return std::make_unique<LinearStep>(std::move(args));
}
std::unique_ptr<Step> make_rope_step(const RopeStepArgs& args) { return std::make_unique<RopeStep>(args); }

void rope_angles(const Rope& rope, int64_t position, float* out) {
  const size_t half = rope.inv_freq.size();
  for (size_t j = 0; j < half; ++j) {
    const double angle = static_cast<float>(position) * rope.inv_freq[j];
    out[j] = static_cast<float>(std::cos(angle) * rope.scale);
    out[half + j] = static_cast<float>(std::sin(angle) * rope.scale);
  }
}

void fill_rope_tables(std::span<const Rope> ropes, Run& run, int worker) {
  const Slice mine = slice_of(run.tokens, worker, run.workers);
  for (size_t i = 0; i < ropes.size(); ++i)
    for (int64_t r = mine.begin; r < mine.end; ++r)
      rope_angles(ropes[i], run.positions[r],
                  run.rope_tables[i].data() + static_cast<size_t>(r) * 2 * ropes[i].inv_freq.size());
}

std::unique_ptr<Step> make_add_step(const Value& a, const Value& b, const Value& out, Isa isa) {
  return std::make_unique<AddStep>(a, b, out, isa);
}
std::unique_ptr<RowStep> make_silu_mul_step(const Value& gate, const Value& up, float limit, const Value& out,
                                            Isa isa) {
  return std::make_unique<SiluMulStep>(gate, up, limit, out, isa);
}
std::unique_ptr<Step> make_select_rows_step(const Value& x, const Value& out) {
  return std::make_unique<SelectRowsStep>(x, out);
}
std::unique_ptr<Step> make_state_step(const Value& out) { return std::make_unique<StateStep>(out); }
std::unique_ptr<RowStep> make_join_step(const Value& a, const Value& b, const Value& out, Isa isa) {
  return std::make_unique<JoinStep>(a, b, out, isa);
}

}  // namespace fettle
