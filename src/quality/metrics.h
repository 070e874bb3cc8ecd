// Pure functions behind the certificate: how far the adapted model's distribution is from the source's,
// position by position. KLD in nats, KL(source || adapted) over the whole vocabulary, double accumulation.
// Quantiles: linear interpolation (type 7). Intervals: percentile bootstrap over windows (Efron 1979),
// resampled with a fixed-seed counter-based generator.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fettle {

// One position of one window.
struct PositionScore {
  double kld = 0;
  double source_nll =
      0;  // -log p of the next token, natural log; NaN where there is none (last position of the text)
  double adapted_nll = 0;
  bool same_top1 = false;
};
PositionScore score_position(std::span<const float> source_logits, std::span<const float> adapted_logits,
                             int32_t next_token);

struct Interval {
  double value = 0, low = 0, high = 0;  // 95 %
};
struct DriftSummary {
  int64_t positions = 0, windows = 0;
  Interval kld_mean;
  double kld_median = 0, kld_p99 = 0, kld_max = 0;
  Interval top1_agreement;
  double perplexity_source = 0, perplexity_adapted = 0;
};
DriftSummary summarise(std::span<const std::vector<PositionScore>> windows);

double quantile(std::vector<double> values, double q);
// Wilson score interval of k successes in n.
Interval proportion(int64_t k, int64_t n);

}  // namespace fettle
