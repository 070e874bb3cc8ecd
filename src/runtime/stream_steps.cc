#include "runtime/stream_steps.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fettle {

namespace {

class RepeatStep final : public Step {
 public:
  RepeatStep(const Value& x, const Value& out) : x_(x), out_(out) {}
  bool ends_by_token() const override { return out_.type.rows == Rows::kTokens; }
  void run(Run& run, int worker) override {
    for_rows(run, out_.type, worker, [&](int64_t r) {
      for (int64_t i = 0; i < out_.type.cols; i += x_.type.cols)
        std::memcpy(out_.row(r) + i, x_.row(r), static_cast<size_t>(x_.type.cols) * sizeof(float));
    });
  }

 private:
  Value x_, out_;
};

class SimulateStep final : public Step {
 public:
  SimulateStep(const Value& x, const Value& out, const Node& node)
      : x_(x),
        out_(out),
        simulation_(*parse_simulation(node.text("kind"))),
        head_(x.type.cols / node.integer("heads")),
        at_(node.integer("at")),
        size_(node.integer("size")) {}
  bool ends_by_token() const override { return out_.type.rows == Rows::kTokens; }
  void run(Run& run, int worker) override {
    for_rows(run, out_.type, worker, [&](int64_t r) {
      if (out_.data != x_.data)
        std::memcpy(out_.row(r), x_.row(r), static_cast<size_t>(x_.type.cols) * sizeof(float));
      for (int64_t begin = at_; begin < x_.type.cols; begin += head_)
        simulate_lanes(simulation_, out_.row(r) + begin, size_);
    });
  }

 private:
  Value x_, out_;
  Simulation simulation_;
  int64_t head_, at_, size_;
};

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Hyper-connections (Zhu et al. 2024, arXiv 2409.19606) whose mixing matrix is made doubly stochastic: row
// softmax, then columns and rows divided by their sums in turn (Sinkhorn & Knopp 1967), columns last.
class HyperMixStep final : public Step {
 public:
  explicit HyperMixStep(HyperMixStepArgs args)
      : a_(std::move(args)), n_(a_.streams), kernels_(find_elementwise_kernels(a_.isa)) {}
  bool ends_by_token() const override { return a_.out.type.rows == Rows::kTokens; }
  void run(Run& run, int worker) override {
    const int64_t cols = a_.out.type.cols;
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      const float mean =
          kernels_.sum_squares(a_.x.row(r), a_.x.type.cols) / static_cast<float>(a_.x.type.cols);
      const float inverse = 1.0f / std::sqrt(mean + a_.norm_eps);
      float* m = a_.out.row(r);
      for (int64_t i = 0; i < cols; ++i)
        m[i] = a_.raw.row(r)[i] * inverse * a_.scale[static_cast<size_t>(std::min<int64_t>(i / n_, 2))] +
               a_.base[static_cast<size_t>(i)];
      for (int64_t i = 0; i < n_; ++i) m[i] = sigmoid(m[i]) + a_.eps;
      if (cols == n_) return;
      for (int64_t i = n_; i < 2 * n_; ++i) m[i] = 2.0f * sigmoid(m[i]);
      make_doubly_stochastic(m + 2 * n_);
    });
  }

 private:
  // Divides the numbers at c, c + step, ... by their sum.
  void divide(float* c, int64_t step) const {
    float sum = a_.eps;
    for (int64_t i = 0; i < n_; ++i) sum += c[i * step];
    for (int64_t i = 0; i < n_; ++i) c[i * step] /= sum;
  }
  void make_doubly_stochastic(float* c) const {
    for (int64_t j = 0; j < n_; ++j) {
      float* row = c + j * n_;
      const float top = *std::max_element(row, row + n_);
      float sum = 0.0f;
      for (int64_t k = 0; k < n_; ++k) sum += row[k] = std::exp(row[k] - top);
      for (int64_t k = 0; k < n_; ++k) row[k] = row[k] / sum + a_.eps;
    }
    for (int64_t i = 0; i < a_.iterations; ++i) {
      for (int64_t j = 0; i > 0 && j < n_; ++j) divide(c + j * n_, 1);
      for (int64_t k = 0; k < n_; ++k) divide(c + k, n_);
    }
  }

  HyperMixStepArgs a_;
  int64_t n_;
  const ElementwiseKernels& kernels_;
};

class HyperReadStep final : public Step {
 public:
  HyperReadStep(const Value& x, const Value& mix, int64_t streams, const Value& out, Isa isa)
      : x_(x), mix_(mix), out_(out), n_(streams), kernels_(find_elementwise_kernels(isa)) {}
  bool ends_by_token() const override { return out_.type.rows == Rows::kTokens; }
  void run(Run& run, int worker) override {
    for_rows(run, out_.type, worker, [&](int64_t r) {
      const float* streams[kMostStreams];
      for (int64_t j = 0; j < n_; ++j) streams[j] = x_.row(r) + j * out_.type.cols;
      kernels_.weighted_sum(streams, mix_.row(r), n_, out_.type.cols, out_.row(r));
    });
  }

 private:
  Value x_, mix_, out_;
  int64_t n_;
  const ElementwiseKernels& kernels_;
};

class HyperWriteStep final : public Step {
 public:
  explicit HyperWriteStep(const HyperWriteStepArgs& args)
      : a_(args), n_(args.streams), kernels_(find_elementwise_kernels(args.isa)) {}
  bool ends_by_token() const override { return a_.out.type.rows == Rows::kTokens; }
  void run(Run& run, int worker) override {
    const int64_t d = a_.y.type.cols;
    for_rows(run, a_.out.type, worker, [&](int64_t r) {
      const float* mix = a_.mix.row(r);
      const float* rows[kMostStreams + 1] = {a_.y.row(r)};
      for (int64_t j = 0; j < n_; ++j) rows[1 + j] = a_.x.row(r) + j * d;
      float weights[kMostStreams + 1];
      for (int64_t k = 0; k < n_; ++k) {
        weights[0] = mix[n_ + k];
        for (int64_t j = 0; j < n_; ++j) weights[1 + j] = mix[2 * n_ + j * n_ + k];
        kernels_.weighted_sum(rows, weights, 1 + n_, d, a_.out.row(r) + k * d);
      }
    });
  }

 private:
  HyperWriteStepArgs a_;
  int64_t n_;
  const ElementwiseKernels& kernels_;
};

}  // namespace

std::unique_ptr<Step> make_repeat_step(const Value& x, const Value& out) {
  return std::make_unique<RepeatStep>(x, out);
}
std::unique_ptr<Step> make_simulate_step(const Value& x, const Value& out, const Node& node) {
  return std::make_unique<SimulateStep>(x, out, node);
}
std::unique_ptr<Step> make_hyper_mix_step(HyperMixStepArgs args) {
  return std::make_unique<HyperMixStep>(std::move(args));
}
std::unique_ptr<Step> make_hyper_read_step(const Value& x, const Value& mix, int64_t streams,
                                           const Value& out, Isa isa) {
  return std::make_unique<HyperReadStep>(x, mix, streams, out, isa);
}
std::unique_ptr<Step> make_hyper_write_step(const HyperWriteStepArgs& args) {
  return std::make_unique<HyperWriteStep>(args);
}

}  // namespace fettle
