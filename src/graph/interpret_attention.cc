// Attention and what chooses and makes its entries, over whole rows instead of caches.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/interpreter.h"

namespace fettle {

Interpreter::Values Interpreter::attention(const Node& node) const {
  const CacheSpec& cache = this->cache(node);
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
Result<Interpreter::Values> Interpreter::latent_attention(const Node& node) {
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
      const std::vector<int64_t> seen = chosen(node, r, r + 1);
      double top = -INFINITY, sum = 0;
      for (const int64_t j : seen) {
        const float* shared = in(node, 2).data() + j * rotated;
        p[j] = (std::inner_product(q, q + kd, k.data() + j * kd, 0.0) +
                std::inner_product(q + kd, q + kd + rotated, shared, 0.0)) *
               node.number("scale");
        top = std::max(top, p[j]);
      }
      for (const int64_t j : seen) sum += p[j] = std::exp(p[j] - top);
      float* o = out.data() + (r * heads + h) * vd;
      for (const int64_t j : seen)
        for (int64_t i = 0; i < vd; ++i) o[i] += static_cast<float>(p[j] / sum * v[j * vd + i]);
    }
  }
  return out;
}

std::vector<int64_t> Interpreter::chosen(const Node& node, int64_t r, int64_t count) const {
  std::vector<int64_t> entries;
  if (node.inputs.size() < 4) {
    entries.resize(static_cast<size_t>(count));
    std::iota(entries.begin(), entries.end(), 0);
    return entries;
  }
  for (int64_t i = 0; i < in_cols(node, 3); ++i)
    if (const float entry = row(node, 3, r)[i]; entry >= 0) entries.push_back(static_cast<int64_t>(entry));
  return entries;
}

// DeepSeek-V4 (models.md 4.5): softmax over the tokens of the entry, for every channel by itself. Where the
// inputs are twice as wide as the entry, it also covers the tokens before, which show their first halves.
Result<Interpreter::Values> Interpreter::compress(const Node& node) {
  TRY(const Values shift, weights_(node.weights[0].weight, 0));
  TRY(const Values gain, weights_(node.weights[1].weight, 0));
  const int64_t rate = node.integer("rate"), dim = node.type.cols, cols = in_cols(node, 0);
  Values out(static_cast<size_t>(rows_ * dim), 0.0f);
  for (int64_t last = rate - 1; last < rows_; last += rate) {
    const int64_t first = last + 1 - rate, begin = cols == dim ? first : std::max<int64_t>(first - rate, 0);
    float* entry = out.data() + last * dim;
    double squares = 0;
    for (int64_t i = 0; i < dim; ++i) {
      const auto lane = [&](int64_t j) { return cols == dim || j < first ? i : dim + i; };
      double top = -INFINITY, sum = 0, mixed = 0;
      const auto gate = [&](int64_t j) {
        return static_cast<double>(row(node, 1, j)[lane(j)]) + shift[j % rate * cols + lane(j)];
      };
      for (int64_t j = begin; j <= last; ++j) top = std::max(top, gate(j));
      for (int64_t j = begin; j <= last; ++j) {
        const double weight = std::exp(gate(j) - top);
        sum += weight;
        mixed += weight * row(node, 0, j)[lane(j)];
      }
      entry[i] = static_cast<float>(mixed / sum);
      squares += static_cast<double>(entry[i]) * entry[i];
    }
    const double factor = 1 / std::sqrt(squares / static_cast<double>(dim) + node.number("eps"));
    for (int64_t i = 0; i < dim; ++i) entry[i] = static_cast<float>(entry[i] * factor) * gain[i];
    rotate(*graph_.find_rope(node.text("rope")), entry + node.integer("at"), first);
  }
  return out;
}

Interpreter::Values Interpreter::index(const Node& node) const {
  const int64_t heads = node.integer("heads"), rate = node.integer("rate"), dim = in_cols(node, 1);
  const size_t top = static_cast<size_t>(node.integer("top"));
  Values out(static_cast<size_t>(rows_) * top, -1.0f);
  for (int64_t r = 0; r < rows_; ++r) {
    std::vector<std::pair<double, int64_t>> ranked;
    for (int64_t entry = 0; entry < (r + 1) / rate; ++entry) {
      const float* k = row(node, 1, (entry + 1) * rate - 1);
      double score = 0;
      for (int64_t h = 0; h < heads; ++h) {
        const float* q = row(node, 0, r) + h * dim;
        score +=
            std::max(std::inner_product(q, q + dim, k, 0.0) * node.number("scale"), 0.0) * row(node, 2, r)[h];
      }
      ranked.push_back({-score, entry});
    }
    std::sort(ranked.begin(), ranked.end());
    std::vector<int64_t> best;
    for (size_t i = 0; i < std::min(top, ranked.size()); ++i) best.push_back(ranked[i].second);
    std::sort(best.begin(), best.end());
    std::copy(best.begin(), best.end(), out.begin() + static_cast<ptrdiff_t>(r * static_cast<int64_t>(top)));
  }
  return out;
}

Result<Interpreter::Values> Interpreter::window_attention(const Node& node) {
  const int64_t heads = node.integer("heads"), dim = in_cols(node, 1), rate = node.integer_or("rate", 0);
  Values sink(static_cast<size_t>(heads), -INFINITY), out(static_cast<size_t>(rows_ * heads * dim), 0.0f);
  if (!node.weights.empty()) {
    TRY(sink, weights_(node.weights[0].weight, 0));
  }
  for (int64_t r = 0; r < rows_; ++r) {
    std::vector<const float*> seen;
    for (int64_t j = std::max<int64_t>(0, r + 1 - node.integer("window")); j <= r; ++j)
      seen.push_back(row(node, 1, j));
    if (rate > 0)
      for (const int64_t entry : chosen(node, r, (r + 1) / rate))
        seen.push_back(row(node, 2, (entry + 1) * rate - 1));
    for (int64_t h = 0; h < heads; ++h) {
      const float* q = row(node, 0, r) + h * dim;
      std::vector<double> p;
      double top = sink[h], sum = 0;
      for (const float* kv : seen) {
        p.push_back(std::inner_product(q, q + dim, kv, 0.0) * node.number("scale"));
        top = std::max(top, p.back());
      }
      for (double& x : p) sum += x = std::exp(x - top);
      sum += std::exp(sink[h] - top);
      float* o = out.data() + (r * heads + h) * dim;
      for (size_t j = 0; j < seen.size(); ++j)
        for (int64_t i = 0; i < dim; ++i) o[i] += static_cast<float>(p[j] / sum * seen[j][i]);
    }
  }
  return out;
}

}  // namespace fettle
