#include "graph/interpret.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "graph/interpreter.h"
#include "graph/simulate.h"
#include "tensor/float_groups.h"
#include "tensor/numbers.h"

namespace fettle {

namespace {

// Rounds and restores one group: what an int8 consumer sees (kernels/linear/quantise.h).
void round_group(float* x, int64_t n) {
  float amax = 0;
  for (int64_t i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  if (amax == 0) return;
  const float inverse = 127.0f / amax, scale = amax / 127.0f;
  for (int64_t i = 0; i < n; ++i) x[i] = std::clamp(std::nearbyint(x[i] * inverse), -127.0f, 127.0f) * scale;
}

}  // namespace

void round_row(Form form, float* x, int64_t n) {
  if (form == Form::kBF16)
    for (int64_t i = 0; i < n; ++i) x[i] = bf16_to_f32(f32_to_bf16(x[i]));
  if (form == Form::kQ8T) round_group(x, n);
  if (form == Form::kQ8G32)
    for (int64_t i = 0; i < n; i += 32) round_group(x + i, std::min<int64_t>(32, n - i));
  if (form == Form::kF8G128) round_e4m3_groups(x, n, kF8Block, ScaleFormat::kF32);
  if (form == Form::kF8G128Ue8m0) round_e4m3_groups(x, n, kF8Block, ScaleFormat::kUe8m0);
}

Result<std::vector<Interpreter::Values>> Interpreter::run() {
  for (const Node& node : graph_.nodes) {
    TRY(Values out, evaluate(node));
    for (int64_t r = 0; r < rows_; ++r)
      round_row(node.type.form, out.data() + r * node.type.cols, node.type.cols);
    values_.push_back(std::move(out));
  }
  return std::move(values_);
}

namespace {

float silu(float z) { return z / (1 + std::exp(-z)); }

}  // namespace

Result<Interpreter::Values> Interpreter::evaluate(const Node& node) {
  switch (node.op) {
    case Op::kEmbed:
      return embed(node);
    case Op::kRmsNorm:
      return rms_norm(node);
    case Op::kLayerNorm:
      return layer_norm(node);
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
    case Op::kSiluMul: {
      const float limit = static_cast<float>(node.number_or("limit", INFINITY));
      return zip(node, [limit](float a, float b) {
        return silu(std::min(a, limit)) * std::clamp(b, -limit, limit);
      });
    }
    case Op::kLatentAttention:
      return latent_attention(node);
    case Op::kRoute:
      return route(node);
    case Op::kExperts:
      return experts(node);
    case Op::kQuantise:
    case Op::kSelectRows:
      return in(node, 0);
    case Op::kRepeat:
      return repeat(node);
    case Op::kHyperMix:
      return hyper_mix(node);
    case Op::kHyperRead:
      return hyper_read(node);
    case Op::kHyperWrite:
      return hyper_write(node);
    case Op::kCompress:
      return compress(node);
    case Op::kIndex:
      return index(node);
    case Op::kWindowAttention:
      return window_attention(node);
    case Op::kGroupedLinear:
      return grouped_linear(node);
    case Op::kRouteByToken:
      return route_by_token(node);
    case Op::kSimulate:
      return simulate(node);
    case Op::kState:
      CHECK(static_cast<int64_t>(states_.size()) == rows_ * node.type.cols, "{} numbers", states_.size());
      return Values(states_.begin(), states_.end());
    case Op::kJoin:
      return join(node);
  }
  return Values{};
}

Result<Interpreter::Values> Interpreter::embed(const Node& node) {
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

Result<Interpreter::Values> Interpreter::rms_norm(const Node& node) {
  Values gain(static_cast<size_t>(node.type.cols / node.integer("heads")), 1.0f);
  if (!node.weights.empty()) {
    TRY(gain, weights_(node.weights[0].weight, 0));
  }
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

Result<Interpreter::Values> Interpreter::layer_norm(const Node& node) {
  TRY(const Values gain, weights_(node.weights[0].weight, 0));
  TRY(const Values bias, weights_(node.weights[1].weight, 0));
  Values out = in(node, 0);
  const double cols = static_cast<double>(node.type.cols);
  for (float* x = out.data(); x < out.data() + out.size(); x += node.type.cols) {
    const double mean = std::accumulate(x, x + node.type.cols, 0.0) / cols;
    double squares = 0;
    for (int64_t i = 0; i < node.type.cols; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double factor = 1 / std::sqrt(squares / cols + node.number("eps"));
    for (int64_t i = 0; i < node.type.cols; ++i)
      x[i] = static_cast<float>((x[i] - mean) * factor) * gain[i] + bias[i];
  }
  return out;
}

void Interpreter::multiply(const float* x, const Values& w, int64_t n, int64_t k, float* y) {
  for (int64_t j = 0; j < n; ++j) {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(x[i]) * w[j * k + i];
    y[j] = static_cast<float>(sum);
  }
}

Result<Interpreter::Values> Interpreter::linear(const Node& node) {
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

Interpreter::Values Interpreter::columns(const Node& node) const {
  const int64_t begin = node.integer("begin"), size = node.integer("size"), ld = in_cols(node, 0);
  Values out;
  for (int64_t r = 0; r < rows_; ++r) {
    const float* row = in(node, 0).data() + r * ld + begin;
    out.insert(out.end(), row, row + size);
  }
  return out;
}

void Interpreter::rotate(const Rope& rope, float* x, int64_t position) const {
  const int64_t half = static_cast<int64_t>(rope.inv_freq.size());
  for (int64_t i = 0; i < half; ++i) {
    float& a = x[rope.pairs ? 2 * i : i];
    float& b = x[rope.pairs ? 2 * i + 1 : i + half];
    const float angle = static_cast<float>(position) * rope.inv_freq[i];
    const float c = static_cast<float>(std::cos(angle) * rope.scale),
                s = static_cast<float>(std::sin(angle) * rope.scale);
    const float a0 = a;
    a = a0 * c - b * s;
    b = a0 * s + b * c;
  }
}

Interpreter::Values Interpreter::join(const Node& node) const {
  Values out;
  for (int64_t r = 0; r < rows_; ++r)
    for (int i = 0; i < 2; ++i) out.insert(out.end(), row(node, i, r), row(node, i, r) + in_cols(node, i));
  return out;
}

Interpreter::Values Interpreter::rope(const Node& node) const {
  const Rope& rope = *graph_.find_rope(node.text("rope"));
  Values out = in(node, 0);
  const int64_t cols = node.type.cols, head = cols / node.integer("heads");
  for (int64_t r = 0; r < rows_; ++r)
    for (int64_t begin = node.integer("at"); begin < cols; begin += head)
      rotate(rope, out.data() + r * cols + begin, r);
  return out;
}

Interpreter::Values Interpreter::repeat(const Node& node) const {
  Values out;
  for (int64_t r = 0; r < rows_; ++r)
    for (int64_t i = 0; i < node.integer("count"); ++i)
      out.insert(out.end(), row(node, 0, r), row(node, 0, r) + in_cols(node, 0));
  return out;
}

Interpreter::Values Interpreter::simulate(const Node& node) const {
  const Simulation simulation = *parse_simulation(node.text("kind"));
  Values out = in(node, 0);
  const int64_t head = node.type.cols / node.integer("heads");
  for (size_t begin = static_cast<size_t>(node.integer("at")); begin < out.size();
       begin += static_cast<size_t>(head))
    simulate_lanes(simulation, out.data() + begin, node.integer("size"));
  return out;
}

Result<Interpreter::Values> Interpreter::grouped_linear(const Node& node) {
  const Shape& shape = graph_.find_weight(node.weights[0].weight)->expr->shape;
  const int64_t groups = shape[0], n = shape[1], k = shape[2];
  const Form inner = *parse_form(node.text("inner"));
  Values out(static_cast<size_t>(rows_ * node.type.cols)), x(static_cast<size_t>(k));
  for (int64_t g = 0; g < groups; ++g) {
    TRY(const Values w, weights_(node.weights[0].weight, g));
    for (int64_t r = 0; r < rows_; ++r) {
      std::copy_n(row(node, 0, r) + g * k, k, x.data());
      round_row(inner, x.data(), k);
      multiply(x.data(), w, n, k, out.data() + r * node.type.cols + g * n);
    }
  }
  return out;
}

Result<std::vector<std::vector<float>>> interpret(const Graph& graph, const DecodedWeights& weights,
                                                  std::span<const int32_t> ids,
                                                  std::span<const float> states) {
  return Interpreter(graph, weights, ids, states).run();
}

}  // namespace fettle
