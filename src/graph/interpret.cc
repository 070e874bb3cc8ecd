#include "graph/interpret.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "tensor/float_groups.h"
#include "tensor/numbers.h"

namespace fettle {

namespace {

using Values = std::vector<float>;

// Rounds and restores one group: what an int8 consumer sees (kernels/linear/quantise.h).
void round_group(float* x, int64_t n) {
  float amax = 0;
  for (int64_t i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  if (amax == 0) return;
  const float inverse = 127.0f / amax, scale = amax / 127.0f;
  for (int64_t i = 0; i < n; ++i) x[i] = std::clamp(std::nearbyint(x[i] * inverse), -127.0f, 127.0f) * scale;
}

void round_row(Form form, float* x, int64_t n) {
  if (form == Form::kBF16)
    for (int64_t i = 0; i < n; ++i) x[i] = bf16_to_f32(f32_to_bf16(x[i]));
  if (form == Form::kQ8T) round_group(x, n);
  if (form == Form::kQ8G32)
    for (int64_t i = 0; i < n; i += 32) round_group(x + i, std::min<int64_t>(32, n - i));
  if (form == Form::kF8G128) round_e4m3_groups(x, n, kF8Block, ScaleFormat::kF32);
  if (form == Form::kF8G128Ue8m0) round_e4m3_groups(x, n, kF8Block, ScaleFormat::kUe8m0);
}

class Interpreter {
 public:
  Interpreter(const Graph& graph, const DecodedWeights& weights, std::span<const int32_t> ids)
      : graph_(graph), weights_(weights), ids_(ids), rows_(static_cast<int64_t>(ids.size())) {}

  Result<std::vector<Values>> run() {
    for (const Node& node : graph_.nodes) {
      TRY(Values out, evaluate(node));
      for (int64_t r = 0; r < rows_; ++r)
        round_row(node.type.form, out.data() + r * node.type.cols, node.type.cols);
      values_.push_back(std::move(out));
    }
    return std::move(values_);
  }

 private:
  const Values& in(const Node& node, int i) const { return values_[node.inputs[i]]; }
  int64_t in_cols(const Node& node, int i) const { return graph_.nodes[node.inputs[i]].type.cols; }

  Result<Values> evaluate(const Node& node) {
    switch (node.op) {
      case Op::kEmbed:
        return embed(node);
      case Op::kRmsNorm:
        return rms_norm(node);
      case Op::kLinear:
        return linear(node);
      case Op::kColumns:
        return columns(node);
      case Op::kRope:
        return rope(node);
      case Op::kAttention:
        return attention(node);
      case Op::kAdd:
        return zip(node, [](float a, float b) { return a + b; });
      case Op::kSiluMul:
        return zip(node, [](float a, float b) { return a / (1 + std::exp(-a)) * b; });
      case Op::kLatentAttention:
        return latent_attention(node);
      case Op::kRoute:
        return route(node);
      case Op::kExperts:
        return experts(node);
      case Op::kQuantise:
      case Op::kSelectRows:
        return in(node, 0);
    }
    return Values{};
  }

  template <typename F>
  Values zip(const Node& node, F f) const {
    Values out = in(node, 0);
    for (size_t i = 0; i < out.size(); ++i) out[i] = f(out[i], in(node, 1)[i]);
    return out;
  }

  Result<Values> embed(const Node& node) {
    TRY(const Values table, weights_(node.weights[0].weight, 0));
    Values out;
    for (const int32_t id : ids_) {
      if (id < 0 || id >= graph_.vocab)
        return bad_input("token id {} is outside the vocabulary of {}", id, graph_.vocab);
      const float* row = table.data() + static_cast<int64_t>(id) * node.type.cols;
      out.insert(out.end(), row, row + node.type.cols);
    }
    return out;
  }

  Result<Values> rms_norm(const Node& node) {
    TRY(const Values gain, weights_(node.weights[0].weight, 0));
    Values out = in(node, 0);
    const int64_t width = static_cast<int64_t>(gain.size());
    for (size_t begin = 0; begin < out.size(); begin += gain.size()) {
      double squares = 0;
      for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(out[begin + i]) * out[begin + i];
      const double factor = 1 / std::sqrt(squares / static_cast<double>(width) + node.number("eps"));
      for (int64_t i = 0; i < width; ++i)
        out[begin + i] = static_cast<float>(out[begin + i] * factor) * gain[i];
    }
    return out;
  }

  static void multiply(const float* x, const Values& w, int64_t n, int64_t k, float* y) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(x[i]) * w[j * k + i];
      y[j] = static_cast<float>(sum);
    }
  }

  Result<Values> linear(const Node& node) {
    const int64_t k = in_cols(node, 0), ld = node.type.cols;
    Values out(static_cast<size_t>(rows_ * ld));
    int64_t column = 0;
    for (const WeightRef& ref : node.weights) {
      TRY(const Values w, weights_(ref.weight, 0));
      const int64_t n = static_cast<int64_t>(w.size()) / k;
      for (int64_t r = 0; r < rows_; ++r)
        multiply(in(node, 0).data() + r * k, w, n, k, out.data() + r * ld + column);
      if (!ref.bias.empty()) {
        TRY(const Values bias, weights_(ref.bias, 0));
        for (int64_t r = 0; r < rows_; ++r)
          for (int64_t j = 0; j < n; ++j) out[r * ld + column + j] += bias[j];
      }
      column += n;
    }
    return out;
  }

  Values columns(const Node& node) const {
    const int64_t begin = node.integer("begin"), size = node.integer("size"), ld = in_cols(node, 0);
    Values out;
    for (int64_t r = 0; r < rows_; ++r) {
      const float* row = in(node, 0).data() + r * ld + begin;
      out.insert(out.end(), row, row + size);
    }
    return out;
  }

  Values rope(const Node& node) const {
    const Rope& rope = *graph_.find_rope(node.text("rope"));
    Values out = in(node, 0);
    const int64_t half = static_cast<int64_t>(rope.inv_freq.size()), cols = node.type.cols,
                  head = cols / node.integer("heads");
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t begin = node.integer("at"); begin < cols; begin += head)
        for (int64_t i = 0; i < half; ++i) {
          float& a = out[r * cols + begin + (rope.pairs ? 2 * i : i)];
          float& b = out[r * cols + begin + (rope.pairs ? 2 * i + 1 : i + half)];
          const float angle = static_cast<float>(r) * rope.inv_freq[i];
          const float c = static_cast<float>(std::cos(angle) * rope.scale),
                      s = static_cast<float>(std::sin(angle) * rope.scale);
          const float a0 = a;
          a = a0 * c - b * s;
          b = a0 * s + b * c;
        }
    return out;
  }

  Values attention(const Node& node) const {
    const CacheSpec& cache = *graph_.find_cache(node.layer);
    const int64_t heads = node.integer("heads"), group = heads / cache.kv_heads;
    const int64_t kd = cache.k_dim, vd = cache.v_dim;
    Values out(static_cast<size_t>(rows_ * heads * vd), 0.0f);
    std::vector<double> p(static_cast<size_t>(rows_));
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t h = 0; h < heads; ++h) {
        const float* q = in(node, 0).data() + (r * heads + h) * kd;
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j <= r; ++j) {
          const float* k = in(node, 1).data() + (j * cache.kv_heads + h / group) * kd;
          p[j] = std::inner_product(q, q + kd, k, 0.0) * node.number("scale");
          top = std::max(top, p[j]);
        }
        for (int64_t j = 0; j <= r; ++j) sum += p[j] = std::exp(p[j] - top);
        float* o = out.data() + (r * heads + h) * vd;
        for (int64_t j = 0; j <= r; ++j) {
          const float* v = in(node, 2).data() + (j * cache.kv_heads + h / group) * vd;
          for (int64_t i = 0; i < vd; ++i) o[i] += static_cast<float>(p[j] / sum * v[i]);
        }
      }
    return out;
  }

  // The naive form: keys and values of every head are made from the latent.
  Result<Values> latent_attention(const Node& node) {
    const int64_t heads = node.integer("heads"), latent = in_cols(node, 1), rotated = in_cols(node, 2);
    const int64_t vd = node.type.cols / heads, kd = in_cols(node, 0) / heads - rotated;
    const int64_t q_cols = in_cols(node, 0);
    Values out(static_cast<size_t>(rows_ * heads * vd), 0.0f);
    std::vector<double> p(static_cast<size_t>(rows_)), k(static_cast<size_t>(rows_ * kd));
    Values v(static_cast<size_t>(rows_ * vd));
    for (int64_t h = 0; h < heads; ++h) {
      TRY(const Values key, weights_(node.weights[0].weight, h));
      TRY(const Values value, weights_(node.weights[1].weight, h));
      std::fill(k.begin(), k.end(), 0.0);
      for (int64_t j = 0; j < rows_; ++j) {
        const float* c = in(node, 1).data() + j * latent;
        for (int64_t l = 0; l < latent; ++l)
          for (int64_t i = 0; i < kd; ++i) k[j * kd + i] += static_cast<double>(key[l * kd + i]) * c[l];
        multiply(c, value, vd, latent, v.data() + j * vd);
      }
      for (int64_t r = 0; r < rows_; ++r) {
        const float* q = in(node, 0).data() + r * q_cols + h * (kd + rotated);
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j <= r; ++j) {
          const float* shared = in(node, 2).data() + j * rotated;
          p[j] = (std::inner_product(q, q + kd, k.data() + j * kd, 0.0) +
                  std::inner_product(q + kd, q + kd + rotated, shared, 0.0)) *
                 node.number("scale");
          top = std::max(top, p[j]);
        }
        for (int64_t j = 0; j <= r; ++j) sum += p[j] = std::exp(p[j] - top);
        float* o = out.data() + (r * heads + h) * vd;
        for (int64_t j = 0; j <= r; ++j)
          for (int64_t i = 0; i < vd; ++i) o[i] += static_cast<float>(p[j] / sum * v[j * vd + i]);
      }
    }
    return out;
  }

  static std::vector<double> expert_scores(const std::string& kind, const float* x, int64_t n) {
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
  static void mask_groups(const Node& node, std::vector<double>& choice) {
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

  // The value of a route node holds the weights; which experts they belong to is kept beside it, for the
  // experts node after it.
  Result<Values> route(const Node& node) {
    const int64_t experts = in_cols(node, 0), k = node.integer("k");
    Values bias(static_cast<size_t>(experts), 0.0f);
    if (!node.weights.empty()) {
      TRY(bias, weights_(node.weights[0].weight, 0));
    }
    routes_.assign(static_cast<size_t>(rows_), {});
    Values out;
    for (int64_t r = 0; r < rows_; ++r) {
      const auto p = expert_scores(node.text("score"), in(node, 0).data() + r * experts, experts);
      std::vector<double> choice = p;
      for (int64_t e = 0; e < experts; ++e) choice[e] += bias[e];
      mask_groups(node, choice);
      std::vector<int64_t> order(static_cast<size_t>(experts));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t a, int64_t b) { return choice[a] > choice[b]; });
      double kept = 0;
      for (int64_t i = 0; i < k; ++i) kept += p[order[i]];
      for (int64_t i = 0; i < k; ++i) {
        double w = p[order[i]] * node.number("scale");
        if (node.integer("normalise")) w /= kept;
        routes_[r].push_back({order[i], static_cast<float>(w)});
        out.push_back(static_cast<float>(w));
      }
    }
    return out;
  }

  Result<Values> experts(const Node& node) {
    const Shape& gate_shape = graph_.find_weight(node.weights[0].weight)->expr->shape;
    const int64_t experts = gate_shape[0], inner = gate_shape[1], k = gate_shape[2], d = node.type.cols;
    const Form inner_form = *parse_form(node.text("inner"));
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
          for (int64_t i = 0; i < inner; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
          round_row(inner_form, gate.data(), inner);
          multiply(gate.data(), wd, d, inner, y.data());
          for (int64_t i = 0; i < d; ++i) out[r * d + i] += weight * y[i];
        }
    }
    return out;
  }

  const Graph& graph_;
  const DecodedWeights& weights_;
  std::span<const int32_t> ids_;
  int64_t rows_;
  std::vector<Values> values_;
  std::vector<std::vector<std::pair<int64_t, float>>> routes_;  // of the last route node
};

}  // namespace

Result<std::vector<std::vector<float>>> interpret(const Graph& graph, const DecodedWeights& weights,
                                                  std::span<const int32_t> ids) {
  return Interpreter(graph, weights, ids).run();
}

}  // namespace fettle
