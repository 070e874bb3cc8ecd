#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "runtime/stream_steps.h"

namespace fettle {

namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float sqrt_softplus(float x) { return std::sqrt(x > 20.0f ? x : std::log1p(std::exp(x))); }

auto descending(const float* values) {
  return [values](int32_t a, int32_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; };
}

void score_row(std::string_view kind, decltype(ElementwiseKernels::softmax) softmax, float* x, int64_t n) {
  if (kind == "softmax") return softmax(x, n);
  for (int64_t e = 0; e < n; ++e) x[e] = kind == "sigmoid" ? sigmoid(x[e]) : sqrt_softplus(x[e]);
}

// Weighs a row's experts by their scores.
template <typename Experts>
void weigh(const Experts& experts, const float* scores, float scale, bool normalise, int64_t k,
           Route* routes) {
  float sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += scores[experts[i]];
  for (int64_t i = 0; i < k; ++i)
    routes[i] = {experts[i], scores[experts[i]] * scale / (normalise ? sum : 1.0f)};
}

// Those that every row has besides are numbered after those with scores.
void add_always(int64_t scored, int64_t count, Route* routes) {
  for (int64_t i = 0; i < count; ++i) routes[i] = {static_cast<int32_t>(scored + i), 1.0f};
}

// The token names its experts.
class TokenRouteStep final : public Step {
 public:
  explicit TokenRouteStep(TokenRouteStepArgs args)
      : a_(std::move(args)), softmax_(find_elementwise_kernels(a_.isa).softmax) {}
  int64_t scratch_floats() const override { return a_.scores.type.cols; }
  void run(Run& run, int worker) override {
    float* scores = run.scratch[worker].data();
    for_rows(run, a_.scores.type, worker, [&](int64_t r) {
      std::copy_n(a_.scores.row(r), a_.scores.type.cols, scores);
      score_row(a_.score, softmax_, scores, a_.scores.type.cols);
      auto* routes = reinterpret_cast<Route*>(a_.out.data) + r * a_.out.type.cols;
      weigh(a_.table.data() + run.ids[r] * a_.k, scores, a_.scale, a_.normalise, a_.k, routes);
      add_always(a_.scores.type.cols, a_.out.type.cols - a_.k, routes + a_.k);
    });
  }

 private:
  TokenRouteStepArgs a_;
  decltype(ElementwiseKernels::softmax) softmax_;
};

// Chooses experts by score + bias, within the groups that rank first (DeepSeek-AI 2024, arXiv 2412.19437,
// section 2.1.2), and weighs them by the score alone.
class RouteStep final : public Step {
 public:
  explicit RouteStep(RouteStepArgs args)
      : a_(std::move(args)),
        experts_(a_.scores.type.cols),
        softmax_(find_elementwise_kernels(a_.isa).softmax) {}
  int64_t scratch_floats() const override { return 3 * experts_ + 2 * a_.groups; }
  void run(Run& run, int worker) override {
    float* scores = run.scratch[worker].data();
    float* choice = scores + experts_;
    auto* order = reinterpret_cast<int32_t*>(choice + experts_);
    for_rows(run, a_.scores.type, worker, [&](int64_t r) {
      std::copy_n(a_.scores.row(r), experts_, scores);
      score_row(a_.score, softmax_, scores, experts_);
      for (int64_t e = 0; e < experts_; ++e)
        choice[e] = scores[e] + (a_.bias.empty() ? 0.0f : a_.bias[static_cast<size_t>(e)]);
      if (a_.kept < a_.groups) keep_groups(choice, order);
      std::iota(order, order + experts_, 0);
      std::partial_sort(order, order + a_.k, order + experts_, descending(choice));
      auto* routes = reinterpret_cast<Route*>(a_.out.data) + r * a_.out.type.cols;
      weigh(order, scores, a_.scale, a_.normalise, a_.k, routes);
      add_always(experts_, a_.out.type.cols - a_.k, routes + a_.k);
    });
  }

 private:
  // Takes the experts of all other groups out of the choice. `room`: of 3 * experts numbers before, 2 *
  // groups.
  void keep_groups(float* choice, int32_t* room) const {
    const int64_t size = experts_ / a_.groups;
    float* ranks = reinterpret_cast<float*>(room + experts_);
    int32_t* order = room + experts_ + a_.groups;
    for (int64_t g = 0; g < a_.groups; ++g) {
      float first = -std::numeric_limits<float>::infinity(), second = first;
      for (const float* x = choice + g * size; x < choice + (g + 1) * size; ++x) {
        if (*x > first)
          second = std::exchange(first, *x);
        else
          second = std::max(second, *x);
      }
      ranks[g] = a_.rank_by_two ? first + second : first;
    }
    std::iota(order, order + a_.groups, 0);
    std::sort(order, order + a_.groups, descending(ranks));
    for (int64_t i = a_.kept; i < a_.groups; ++i)
      std::fill_n(choice + order[i] * size, size, -std::numeric_limits<float>::infinity());
  }

  RouteStepArgs a_;
  int64_t experts_;
  decltype(ElementwiseKernels::softmax) softmax_;
};

}  // namespace

std::unique_ptr<Step> make_token_route_step(TokenRouteStepArgs args) {
  return std::make_unique<TokenRouteStep>(std::move(args));
}

std::unique_ptr<Step> make_route_step(RouteStepArgs args) {
  return std::make_unique<RouteStep>(std::move(args));
}

}  // namespace fettle
