#include "quality/metrics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/elementwise/elementwise.h"

namespace fettle {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int kResamples = 1000;
constexpr uint64_t kBootstrapSeed = 0x66657474'6c650001;

// e^x for x <= 0, the same bits on every machine, which a library's exp does not give.
void exponentials(double* x, size_t count) {
  static const ElementwiseKernels& kernels = find_elementwise_kernels(detect_isa());
  kernels.exp_doubles(x, static_cast<int64_t>(count));
}
double exp_of_nonpositive(double x) {
  exponentials(&x, 1);
  return x;
}

bool all_finite(std::span<const float> values) {
  uint32_t bad = 0;
  for (const float v : values) bad |= (std::bit_cast<uint32_t>(v) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  return bad == 0;
}

// Several running maxima, because one is a chain that the compiler may not break.
float maximum(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> best;
  best.fill(values[0]);
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) best[l] = values[i + l] > best[l] ? values[i + l] : best[l];
  }
  for (size_t i = whole; i < values.size(); ++i) best[0] = std::max(best[0], values[i]);
  return *std::max_element(best.begin(), best.end());
}

size_t first_index_of(std::span<const float> values, float value) {
  return static_cast<size_t>(std::find(values.begin(), values.end(), value) - values.begin());
}

// With a = x_i - max x (source), b = y_i - max y (adapted): sum e^a, sum e^b, sum e^a (a - b).
struct Sums {
  double source = 0, adapted = 0, cross = 0;
};

double sum_of(const double* values, size_t count) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> lanes{};
  const size_t whole = count / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += values[i + l];
  }
  for (size_t i = whole; i < count; ++i) lanes[i % kLanes] += values[i];
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

// In blocks that stay in the first-level cache: loops of pure elementwise work, then the sums.
Sums finite_sums(std::span<const float> source, std::span<const float> adapted, double source_max,
                 double adapted_max) {
  constexpr size_t kBlock = 512;
  std::array<double, kBlock> source_exp, adapted_exp, cross;
  Sums sums;
  for (size_t begin = 0; begin < source.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, source.size() - begin);
    const float* x = source.data() + begin;
    const float* y = adapted.data() + begin;
    for (size_t i = 0; i < count; ++i) {
      source_exp[i] = x[i] - source_max;
      adapted_exp[i] = y[i] - adapted_max;
      cross[i] = source_exp[i] - adapted_exp[i];
    }
    exponentials(source_exp.data(), count);
    exponentials(adapted_exp.data(), count);
    for (size_t i = 0; i < count; ++i) cross[i] *= source_exp[i];
    sums.source += sum_of(source_exp.data(), count);
    sums.adapted += sum_of(adapted_exp.data(), count);
    sums.cross += sum_of(cross.data(), count);
  }
  return sums;
}

// The same where some logits are -infinity (masked tokens): such a token has p = 0 and adds nothing, unless
// only the adapted model forbids it, which costs infinitely much.
Sums masked_sums(std::span<const float> source, std::span<const float> adapted, double source_max,
                 double adapted_max) {
  Sums sums;
  for (size_t i = 0; i < source.size(); ++i) {
    const bool source_has = std::isfinite(source[i]), adapted_has = std::isfinite(adapted[i]);
    const double a = source_has ? source[i] - source_max : 0;
    const double b = adapted_has ? adapted[i] - adapted_max : 0;
    if (source_has) sums.source += exp_of_nonpositive(a);
    if (adapted_has) sums.adapted += exp_of_nonpositive(b);
    if (source_has) sums.cross += adapted_has ? exp_of_nonpositive(a) * (a - b) : kInfinity;
  }
  return sums;
}

// A distribution exists: no NaN, no +infinity, at least one finite logit.
bool is_distribution(std::span<const float> logits) {
  bool any = false;
  for (const float v : logits) {
    if (std::isnan(v) || v == std::numeric_limits<float>::infinity()) return false;
    any = any || std::isfinite(v);
  }
  return any;
}

// splitmix64's finaliser (Steele, Lea, Flood 2014) of a counter: number `index` of a stream, without state.
uint64_t random_at(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

struct WindowSums {
  double kld = 0, agreed = 0, positions = 0;
};

// Percentile bootstrap of the two means over positions, drawing whole windows: positions of one window are
// not independent. A single window says nothing about the spread between windows: its bounds are NaN,
// unknown.
void bootstrap(const std::vector<WindowSums>& windows, Interval* kld, Interval* agreement) {
  const uint64_t n = windows.size();
  if (n < 2) {
    kld->low = kld->high = agreement->low = agreement->high = kNan;
    return;
  }
  std::vector<double> kld_means, agreements;
  kld_means.reserve(kResamples);
  agreements.reserve(kResamples);
  uint64_t draw = 0;
  for (int resample = 0; resample < kResamples; ++resample) {
    WindowSums total;
    for (uint64_t i = 0; i < n; ++i) {
      const WindowSums& w = windows[random_at(kBootstrapSeed, draw++) % n];
      total.kld += w.kld;
      total.agreed += w.agreed;
      total.positions += w.positions;
    }
    kld_means.push_back(total.kld / total.positions);
    agreements.push_back(total.agreed / total.positions);
  }
  kld->low = quantile(kld_means, 0.025);
  kld->high = quantile(kld_means, 0.975);
  agreement->low = quantile(agreements, 0.025);
  agreement->high = quantile(agreements, 0.975);
}

}  // namespace

PositionScore score_position(std::span<const float> source, std::span<const float> adapted,
                             int32_t next_token) {
  CHECK(!source.empty() && source.size() == adapted.size(), "{} source and {} adapted logits", source.size(),
        adapted.size());
  CHECK(next_token < 0 || static_cast<size_t>(next_token) < source.size(), "token {} of {}", next_token,
        source.size());
  PositionScore score;
  const bool finite = all_finite(source) && all_finite(adapted);
  if (!finite && !(is_distribution(source) && is_distribution(adapted))) {
    score.kld = kInfinity;
    score.source_nll = score.adapted_nll = next_token < 0 ? kNan : kInfinity;
    return score;
  }
  const float source_max = maximum(source), adapted_max = maximum(adapted);
  const Sums sums = finite ? finite_sums(source, adapted, source_max, adapted_max)
                           : masked_sums(source, adapted, source_max, adapted_max);
  const double log_source = std::log(sums.source), log_adapted = std::log(sums.adapted);
  // KL = sum p (log p - log q), with log p = a - log_source and log q = b - log_adapted.
  score.kld = std::max(0.0, sums.cross / sums.source + (log_adapted - log_source));
  score.same_top1 = first_index_of(source, source_max) == first_index_of(adapted, adapted_max);
  if (next_token < 0) {
    score.source_nll = score.adapted_nll = kNan;
  } else {
    const auto t = static_cast<size_t>(next_token);
    score.source_nll = log_source - (source[t] - static_cast<double>(source_max));
    score.adapted_nll = log_adapted - (adapted[t] - static_cast<double>(adapted_max));
  }
  return score;
}

DriftSummary summarise(std::span<const std::vector<PositionScore>> windows) {
  std::vector<WindowSums> sums;
  std::vector<double> klds;
  WindowSums total;
  double source_nll = 0, adapted_nll = 0;
  int64_t predicted = 0;
  for (const auto& window : windows) {
    if (window.empty()) continue;
    WindowSums sum;
    for (const PositionScore& p : window) {
      const double kld = std::isnan(p.kld) ? kInfinity : p.kld;
      klds.push_back(kld);
      sum.kld += kld;
      sum.agreed += p.same_top1 ? 1 : 0;
      sum.positions += 1;
      if (std::isnan(p.source_nll)) continue;
      source_nll += p.source_nll;
      adapted_nll += std::isnan(p.adapted_nll) ? kInfinity : p.adapted_nll;
      ++predicted;
    }
    total.kld += sum.kld;
    total.agreed += sum.agreed;
    total.positions += sum.positions;
    sums.push_back(sum);
  }
  DriftSummary out;
  out.positions = static_cast<int64_t>(klds.size());
  out.windows = static_cast<int64_t>(sums.size());
  out.kld_mean.value = klds.empty() ? kNan : total.kld / total.positions;
  out.top1_agreement.value = klds.empty() ? kNan : total.agreed / total.positions;
  bootstrap(sums, &out.kld_mean, &out.top1_agreement);
  out.kld_max = klds.empty() ? kNan : *std::max_element(klds.begin(), klds.end());
  out.kld_median = quantile(klds, 0.5);
  out.kld_p99 = quantile(std::move(klds), 0.99);
  out.perplexity_source = predicted ? std::exp(source_nll / static_cast<double>(predicted)) : kNan;
  out.perplexity_adapted = predicted ? std::exp(adapted_nll / static_cast<double>(predicted)) : kNan;
  return out;
}

double quantile(std::vector<double> values, double q) {
  CHECK(q >= 0 && q <= 1, "q = {}", q);
  if (values.empty()) return kNan;
  // A NaN has no place in an order; as a measure of harm it is the worst there is.
  for (double& v : values) v = std::isnan(v) ? kInfinity : v;
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), nth, values.end());
  const double low = *nth, share = place - static_cast<double>(below);
  if (share == 0 || nth + 1 == values.end()) return low;
  const double high = *std::min_element(nth + 1, values.end());
  return low == high ? low : low + share * (high - low);  // equal infinities must not become NaN
}

// Wilson 1927: the interval that stays inside [0, 1] and is not empty at k = 0 or k = n.
Interval proportion(int64_t k, int64_t n) {
  CHECK(k >= 0 && k <= n, "{} of {}", k, n);
  if (n == 0) return {kNan, 0, 1};
  constexpr double kZ = 1.959963984540054;
  const double count = static_cast<double>(n), p = static_cast<double>(k) / count;
  const double shrink = 1 + kZ * kZ / count;
  const double centre = (p + kZ * kZ / (2 * count)) / shrink;
  const double half = kZ * std::sqrt(p * (1 - p) / count + kZ * kZ / (4 * count * count)) / shrink;
  return {p, k == 0 ? 0.0 : std::max(0.0, centre - half), k == n ? 1.0 : std::min(1.0, centre + half)};
}

}  // namespace fettle
