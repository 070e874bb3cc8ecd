// Hyper-connections constrained to a manifold (DeepSeek-V4, models.md 4.3): several residual streams, read by
// a weighted sum, and mixed by a matrix that Sinkhorn's iterations make doubly stochastic.
#include <cmath>

#include "graph/interpreter.h"

namespace fettle {

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Rows, then columns, divided by their sums.
void normalise(std::vector<double>& c, size_t n, bool rows, double eps) {
  for (size_t a = 0; a < n; ++a) {
    double sum = eps;
    for (size_t b = 0; b < n; ++b) sum += rows ? c[a * n + b] : c[b * n + a];
    for (size_t b = 0; b < n; ++b) (rows ? c[a * n + b] : c[b * n + a]) /= sum;
  }
}

void softmax_rows(std::vector<double>& c, size_t n, double eps) {
  for (size_t a = 0; a < n; ++a) {
    double top = -INFINITY, sum = 0;
    for (size_t b = 0; b < n; ++b) top = std::max(top, c[a * n + b]);
    for (size_t b = 0; b < n; ++b) sum += c[a * n + b] = std::exp(c[a * n + b] - top);
    for (size_t b = 0; b < n; ++b) c[a * n + b] = c[a * n + b] / sum + eps;
  }
}

}  // namespace

Result<Interpreter::Values> Interpreter::hyper_mix(const Node& node) {
  TRY(const Values base, weights_(node.weights[0].weight, 0));
  TRY(const Values scale, weights_(node.weights[1].weight, 0));
  const size_t n = static_cast<size_t>(node.integer("streams")), cols = static_cast<size_t>(node.type.cols);
  const double eps = node.number("eps");
  Values out;
  for (int64_t r = 0; r < rows_; ++r) {
    double squares = 0;
    for (int64_t i = 0; i < in_cols(node, 0); ++i)
      squares += static_cast<double>(row(node, 0, r)[i]) * row(node, 0, r)[i];
    const double inverse =
        1 / std::sqrt(squares / static_cast<double>(in_cols(node, 0)) + node.number("norm_eps"));
    std::vector<double> m;
    for (size_t i = 0; i < cols; ++i)
      m.push_back(row(node, 1, r)[i] * inverse * scale[std::min<size_t>(i / n, 2)] + base[i]);
    for (size_t i = 0; i < n; ++i) m[i] = sigmoid(m[i]) + eps;
    for (size_t i = n; i < std::min(cols, 2 * n); ++i) m[i] = 2 * sigmoid(m[i]);
    std::vector<double> c(m.begin() + static_cast<ptrdiff_t>(std::min(cols, 2 * n)), m.end());
    if (!c.empty()) {
      softmax_rows(c, n, eps);
      normalise(c, n, false, eps);
      for (int64_t i = 1; i < node.integer("iters"); ++i) {
        normalise(c, n, true, eps);
        normalise(c, n, false, eps);
      }
      std::copy(c.begin(), c.end(), m.begin() + static_cast<ptrdiff_t>(2 * n));
    }
    for (const double x : m) out.push_back(static_cast<float>(x));
  }
  return out;
}

Interpreter::Values Interpreter::hyper_read(const Node& node) const {
  const int64_t n = node.integer("streams"), d = node.type.cols;
  Values out;
  for (int64_t r = 0; r < rows_; ++r)
    for (int64_t i = 0; i < d; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j)
        sum += static_cast<double>(row(node, 1, r)[j]) * row(node, 0, r)[j * d + i];
      out.push_back(static_cast<float>(sum));
    }
  return out;
}

Interpreter::Values Interpreter::hyper_write(const Node& node) const {
  const int64_t n = node.integer("streams"), d = in_cols(node, 1);
  Values out;
  for (int64_t r = 0; r < rows_; ++r) {
    const float *x = row(node, 0, r), *mix = row(node, 2, r);
    for (int64_t k = 0; k < n; ++k)
      for (int64_t i = 0; i < d; ++i) {
        double sum = static_cast<double>(mix[n + k]) * row(node, 1, r)[i];
        for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(mix[2 * n + j * n + k]) * x[j * d + i];
        out.push_back(static_cast<float>(sum));
      }
  }
  return out;
}

}  // namespace fettle
