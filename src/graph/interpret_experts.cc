// Routing and experts.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/interpreter.h"

namespace fettle {

namespace {

std::vector<double> expert_scores(const std::string& kind, const float* x, int64_t n) {
  std::vector<double> p(x, x + n);
  if (kind == "sigmoid")
    for (double& s : p) s = 1 / (1 + std::exp(-s));
  if (kind == "sqrtsoftplus")
    for (double& s : p) s = std::sqrt(std::log1p(std::exp(s)));
  if (kind != "softmax") return p;
  const double top = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& s : p) sum += s = std::exp(s - top);
  for (double& s : p) s /= sum;
  return p;
}

// Groups that are not kept are out of the choice.
void mask_groups(const Node& node, std::vector<double>& choice) {
  const int64_t groups = node.integer("groups"), size = static_cast<int64_t>(choice.size()) / groups;
  std::vector<std::pair<double, int64_t>> ranked;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<double> of(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::sort(of.rbegin(), of.rend());
    ranked.push_back({-(node.text("rank") == "top2" && size > 1 ? of[0] + of[1] : of[0]), g});
  }
  std::sort(ranked.begin(), ranked.end());
  for (int64_t i = node.integer("kept"); i < groups; ++i)
    std::fill_n(choice.begin() + ranked[i].second * size, size, -INFINITY);
}

}  // namespace

// Keeps a row's experts, and returns their weights.
Interpreter::Values Interpreter::weigh(const Node& node, std::vector<int64_t> experts,
                                       const std::vector<double>& scores) {
  double kept = 0;
  for (const int64_t e : experts) kept += scores[static_cast<size_t>(e)];
  routes_.emplace_back();
  Values weights;
  for (const int64_t e : experts) {
    double w = scores[static_cast<size_t>(e)] * node.number("scale");
    if (node.integer("normalise")) w /= kept;
    weights.push_back(static_cast<float>(w));
    routes_.back().push_back({e, weights.back()});
  }
  for (int64_t i = 0; i < node.integer_or("always", 0); ++i) {
    weights.push_back(1);
    routes_.back().push_back({in_cols(node, 0) + i, 1.0f});
  }
  return weights;
}

// The value of a route node holds the weights; which experts they belong to is kept beside it, for the
// experts node after it.
Result<Interpreter::Values> Interpreter::route(const Node& node) {
  const int64_t experts = in_cols(node, 0), k = node.integer("k");
  Values bias(static_cast<size_t>(experts), 0.0f);
  if (!node.weights.empty()) {
    TRY(bias, weights_(node.weights[0].weight, 0));
  }
  routes_.clear();
  Values out;
  for (int64_t r = 0; r < rows_; ++r) {
    const auto p = expert_scores(node.text("score"), in(node, 0).data() + r * experts, experts);
    std::vector<double> choice = p;
    for (int64_t e = 0; e < experts; ++e) choice[e] += bias[e];
    mask_groups(node, choice);
    std::vector<int64_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return choice[a] > choice[b]; });
    order.resize(static_cast<size_t>(k));
    const Values weights = weigh(node, std::move(order), p);
    out.insert(out.end(), weights.begin(), weights.end());
  }
  return out;
}

Result<Interpreter::Values> Interpreter::route_by_token(const Node& node) {
  TRY(const Values table, weights_(node.weights[0].weight, 0));
  const int64_t experts = in_cols(node, 0), k = node.type.cols - node.integer_or("always", 0);
  routes_.clear();
  Values out;
  for (int64_t r = 0; r < rows_; ++r) {
    std::vector<int64_t> named;
    for (int64_t i = 0; i < k; ++i) {
      const float e = table[static_cast<size_t>(ids_[r] * k + i)];
      if (!(e >= 0) || e >= static_cast<float>(experts))
        return bad_input("weight @{}: token {} goes to expert {} of {}", node.weights[0].weight, ids_[r], e,
                         experts);
      named.push_back(static_cast<int64_t>(e));
    }
    const Values weights =
        weigh(node, std::move(named), expert_scores(node.text("score"), row(node, 0, r), experts));
    out.insert(out.end(), weights.begin(), weights.end());
  }
  return out;
}

Result<Interpreter::Values> Interpreter::experts(const Node& node) {
  const Shape& gate_shape = graph_.find_weight(node.weights[0].weight)->expr->shape;
  const int64_t experts = gate_shape[0], inner = gate_shape[1], k = gate_shape[2], d = node.type.cols;
  const Form inner_form = *parse_form(node.text("inner"));
  const float limit = static_cast<float>(node.number_or("limit", INFINITY));
  const bool early = node.integer_or("early", 0) != 0;
  Values out(static_cast<size_t>(rows_ * d), 0.0f), gate(static_cast<size_t>(inner)), up(gate),
      y(static_cast<size_t>(d));
  for (int64_t e = 0; e < experts; ++e) {
    TRY(const Values wg, weights_(node.weights[0].weight, e));
    TRY(const Values wu, weights_(node.weights[1].weight, e));
    TRY(const Values wd, weights_(node.weights[2].weight, e));
    for (int64_t r = 0; r < rows_; ++r)
      for (const auto& [expert, weight] : routes_[r]) {
        if (expert != e) continue;
        const float* x = in(node, 0).data() + r * k;
        multiply(x, wg, inner, k, gate.data());
        multiply(x, wu, inner, k, up.data());
        for (int64_t i = 0; i < inner; ++i) {
          const float z = std::min(gate[i], limit), u = std::clamp(up[i], -limit, limit);
          gate[i] = z / (1 + std::exp(-z)) * u * (early ? weight : 1.0f);
        }
        round_row(inner_form, gate.data(), inner);
        multiply(gate.data(), wd, d, inner, y.data());
        for (int64_t i = 0; i < d; ++i) out[r * d + i] += (early ? 1.0f : weight) * y[i];
      }
  }
  return out;
}

}  // namespace fettle
