// The inside of the reference interpreter: a function for each operation, in the files interpret*.cc.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "graph/interpret.h"

namespace fettle {

class Interpreter {
 public:
  using Values = std::vector<float>;  // [rows, cols]

  Interpreter(const Graph& graph, const DecodedWeights& weights, std::span<const int32_t> ids,
              std::span<const float> states)
      : graph_(graph),
        weights_(weights),
        ids_(ids),
        states_(states),
        rows_(static_cast<int64_t>(ids.size())) {}
  Result<std::vector<Values>> run();

 private:
  const Values& in(const Node& node, int i) const { return values_[node.inputs[i]]; }
  const float* row(const Node& node, int i, int64_t r) const {
    return in(node, i).data() + r * in_cols(node, i);
  }
  int64_t in_cols(const Node& node, int i) const { return graph_.nodes[node.inputs[i]].type.cols; }
  const CacheSpec& cache(const Node& node) const { return *graph_.find_cache(node.layer); }

  Result<Values> evaluate(const Node& node);
  template <typename F>
  Values zip(const Node& node, F f) const {
    Values out = in(node, 0);
    for (size_t i = 0; i < out.size(); ++i) out[i] = f(out[i], in(node, 1)[i]);
    return out;
  }
  Result<Values> embed(const Node& node);
  Result<Values> rms_norm(const Node& node);
  Result<Values> layer_norm(const Node& node);
  Result<Values> linear(const Node& node);
  Result<Values> grouped_linear(const Node& node);
  Values columns(const Node& node) const;
  Values join(const Node& node) const;
  Values rope(const Node& node) const;
  Values repeat(const Node& node) const;
  Values simulate(const Node& node) const;
  void rotate(const Rope& rope, float* x, int64_t position) const;
  static void multiply(const float* x, const Values& w, int64_t n, int64_t k, float* y);

  // interpret_attention.cc
  Values attention(const Node& node) const;
  Result<Values> latent_attention(const Node& node);
  Result<Values> compress(const Node& node);
  Values index(const Node& node) const;
  Result<Values> window_attention(const Node& node);
  // Of a chosen-entries input: those of row r; without one, all of the first `count`.
  std::vector<int64_t> chosen(const Node& node, int64_t r, int64_t count) const;

  // interpret_hyper.cc
  Result<Values> hyper_mix(const Node& node);
  Values hyper_read(const Node& node) const;
  Values hyper_write(const Node& node) const;

  // interpret_experts.cc
  Result<Values> route(const Node& node);
  Result<Values> route_by_token(const Node& node);
  Result<Values> experts(const Node& node);
  Values weigh(const Node& node, std::vector<int64_t> experts, const std::vector<double>& scores);

  const Graph& graph_;
  const DecodedWeights& weights_;
  std::span<const int32_t> ids_;
  std::span<const float> states_;
  int64_t rows_;
  std::vector<Values> values_;
  std::vector<std::vector<std::pair<int64_t, float>>> routes_;  // of the last route node
};

// What a reader of the form sees: rounded, and restored.
void round_row(Form form, float* x, int64_t n);

}  // namespace fettle
