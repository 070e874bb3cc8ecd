#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/linear/layout.h"
#include "runtime/step.h"

namespace fettle {

RowWriter::RowWriter(const Value& value, Isa isa) : value_(value), is_f32_(value.type.form == Form::kF32) {
  if (!is_f32_) quantise_ = find_quantise_row(activation_of(value.type.form), isa);
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

class RmsNormStep final : public Step {
 public:
  RmsNormStep(const Value& x, std::vector<float> gain, float eps, const Value& out, Isa isa)
      : x_(x),
        out_(out),
        gain_(std::move(gain)),
        eps_(eps),
        norm_(find_elementwise_kernels(isa).rms_norm),
        writer_(out, isa) {}
  int64_t scratch_floats() const override { return x_.type.cols; }
  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(x_.type), width = static_cast<int64_t>(gain_.size());
    float* scratch = run.scratch[worker].data();
    for_rows(run, x_.type, worker, [&](int64_t r) {
      float* y = writer_.target(r, scratch);
      for (int64_t begin = 0; begin < x_.type.cols; begin += width)
        norm_(x_.row(r) + begin, gain_.data(), eps_, width, y + begin);
      writer_.store(y, rows, r);
    });
  }

 private:
  Value x_, out_;
  std::vector<float> gain_;
  float eps_;
  decltype(ElementwiseKernels::rms_norm) norm_;
  RowWriter writer_;
};

class QuantiseStep final : public Step {
 public:
  QuantiseStep(const Value& x, const Value& out, Isa isa) : x_(x), writer_(out, isa) {}
  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(x_.type);
    for_rows(run, x_.type, worker, [&](int64_t r) { writer_.store(x_.row(r), rows, r); });
  }

 private:
  Value x_;
  RowWriter writer_;
};

class LinearStep final : public Step {
 public:
  LinearStep(const Value& x, std::vector<BoundLinear> segments, const Value& out, bool accumulate)
      : x_(x), out_(out), segments_(std::move(segments)), accumulate_(accumulate) {
    for (const BoundLinear& s : segments_) tiles_ += tile_count(s.n);
  }
  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(x_.type);
    const Slice mine = slice_of(tiles_, worker, run.workers);
    int64_t first_tile = 0, column = 0;
    for (const BoundLinear& s : segments_) {
      const int64_t tiles = tile_count(s.n);
      const int64_t begin = std::max(mine.begin - first_tile, int64_t{0}),
                    end = std::min(mine.end - first_tile, tiles);
      if (begin < end && rows > 0)
        s.kernel(rows)({.weight = s.weight.data,
                        .n = s.n,
                        .k = s.k,
                        .x = x_.data,
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
  Value x_, out_;
  std::vector<BoundLinear> segments_;
  bool accumulate_;
  int64_t tiles_ = 0;
};

class RopeStep final : public Step {
 public:
  RopeStep(const Value& x, const Value& out, int64_t heads, const Rope& rope, Isa isa)
      : x_(x), out_(out), heads_(heads), rope_(rope), half_(static_cast<int64_t>(rope.inv_freq.size())) {
    const ElementwiseKernels& kernels = find_elementwise_kernels(isa);
    rotate_ = rope.pairs ? kernels.rope_pairs : kernels.rope_half;
  }
  int64_t scratch_floats() const override { return 2 * half_; }
  void run(Run& run, int worker) override {
    float* cosines = run.scratch[worker].data();
    float* sines = cosines + half_;
    for_rows(run, x_.type, worker, [&](int64_t r) {
      for (int64_t i = 0; i < half_; ++i) {
        const double angle = static_cast<float>(run.positions[r]) * rope_.inv_freq[i];
        cosines[i] = static_cast<float>(std::cos(angle) * rope_.scale);
        sines[i] = static_cast<float>(std::sin(angle) * rope_.scale);
      }
      if (out_.data != x_.data)
        std::memcpy(out_.row(r), x_.row(r), sizeof(float) * static_cast<size_t>(x_.type.cols));
      for (int64_t h = 0; h < heads_; ++h) rotate_(out_.row(r) + h * 2 * half_, cosines, sines, 2 * half_);
    });
  }

 private:
  Value x_, out_;
  int64_t heads_;
  Rope rope_;
  int64_t half_;
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

class SiluMulStep final : public Step {
 public:
  SiluMulStep(const Value& gate, const Value& up, const Value& out, Isa isa)
      : gate_(gate), up_(up), silu_mul_(find_elementwise_kernels(isa).silu_mul), writer_(out, isa) {}
  int64_t scratch_floats() const override { return gate_.type.cols; }
  void run(Run& run, int worker) override {
    const int64_t rows = run.rows(gate_.type);
    for_rows(run, gate_.type, worker, [&](int64_t r) {
      float* y = writer_.target(r, run.scratch[worker].data());
      silu_mul_(gate_.row(r), up_.row(r), gate_.type.cols, y);
      writer_.store(y, rows, r);
    });
  }

 private:
  Value gate_, up_;
  decltype(ElementwiseKernels::silu_mul) silu_mul_;
  RowWriter writer_;
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

class CopyStep final : public Step {
 public:
  CopyStep(const Value& x, const Value& out) : x_(x), out_(out) {}
  void run(Run& run, int worker) override {
    for_rows(run, x_.type, worker, [&](int64_t r) {
      std::memcpy(out_.row(r), x_.row(r), sizeof(float) * static_cast<size_t>(x_.type.cols));
    });
  }

 private:
  Value x_, out_;
};

}  // namespace

std::unique_ptr<Step> make_embed_step(StoredWeight table, const Value& out) {
  return std::make_unique<EmbedStep>(std::move(table), out);
}
std::unique_ptr<Step> make_rms_norm_step(const Value& x, std::vector<float> gain, float eps, const Value& out,
                                         Isa isa) {
  return std::make_unique<RmsNormStep>(x, std::move(gain), eps, out, isa);
}
std::unique_ptr<Step> make_quantise_step(const Value& x, const Value& out, Isa isa) {
  return std::make_unique<QuantiseStep>(x, out, isa);
}
std::unique_ptr<Step> make_linear_step(const Value& x, std::vector<BoundLinear> segments, const Value& out,
                                       bool accumulate) {
  return std::make_unique<LinearStep>(x, std::move(segments), out, accumulate);
}
std::unique_ptr<Step> make_rope_step(const Value& x, const Value& out, int64_t heads, const Rope& rope,
                                     Isa isa) {
  return std::make_unique<RopeStep>(x, out, heads, rope, isa);
}
std::unique_ptr<Step> make_add_step(const Value& a, const Value& b, const Value& out, Isa isa) {
  return std::make_unique<AddStep>(a, b, out, isa);
}
std::unique_ptr<Step> make_silu_mul_step(const Value& gate, const Value& up, const Value& out, Isa isa) {
  return std::make_unique<SiluMulStep>(gate, up, out, isa);
}
std::unique_ptr<Step> make_select_rows_step(const Value& x, const Value& out) {
  return std::make_unique<SelectRowsStep>(x, out);
}
std::unique_ptr<Step> make_copy_step(const Value& x, const Value& out) {
  return std::make_unique<CopyStep>(x, out);
}

}  // namespace fettle
