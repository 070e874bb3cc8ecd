#include <algorithm>
#include <cmath>

#include "arch/decoder.h"

namespace fettle {

namespace {

constexpr double kPi = 3.14159265358979323846;

// Llama 3 (Meta, 2024): long wavelengths are divided by the factor, short ones kept, those between blended.
double scale_llama3(double frequency, const RopeConfig& c) {
  const double wavelength = 2 * kPi / frequency;
  if (wavelength < c.original_context / c.high_freq_factor) return frequency;
  if (wavelength > c.original_context / c.low_freq_factor) return frequency / c.factor;
  const double smooth =
      (c.original_context / wavelength - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
  return (1 - smooth) * frequency / c.factor + smooth * frequency;
}

// YaRN (Peng et al. 2023, section 3.2): the pair index at which the wavelength makes `rotations` turns over
// the original context.
double correction_dim(double rotations, double dim, const RopeConfig& c) {
  return dim * std::log(c.original_context / (rotations * 2 * kPi)) / (2 * std::log(c.theta));
}

double yarn_gain(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1;
}

double yarn_scale(const RopeConfig& c) {
  if (c.attention_factor) return *c.attention_factor;
  if (c.mscale != 0 && c.mscale_all_dim != 0)
    return yarn_gain(c.factor, c.mscale) / yarn_gain(c.factor, c.mscale_all_dim);
  return yarn_gain(c.factor, 1);
}

}  // namespace

Result<Rope> make_rope(const RopeConfig& config, int64_t dim, bool pairs) {
  if (dim <= 0 || dim % 2 != 0) return bad_input("rotary width is {}; expected a positive even number", dim);
  Rope rope{"rope", pairs, 1, {}};
  const double d = static_cast<double>(dim);
  double low = 0, high = 0;
  if (config.kind == RopeKind::kYarn) {
    low = std::max(std::floor(correction_dim(config.beta_fast, d, config)), 0.0);
    high = std::min(std::ceil(correction_dim(config.beta_slow, d, config)), d - 1);
    if (low == high) high += 0.001;
    rope.scale = yarn_scale(config);
  }
  if (!config.divisors.empty() && static_cast<int64_t>(config.divisors.size()) != dim / 2)
    return bad_input("rope_freqs.weight has {} divisors; heads have {} pairs", config.divisors.size(),
                     dim / 2);
  for (int64_t i = 0; i < dim / 2; ++i) {
    double f = std::pow(config.theta, -2.0 * static_cast<double>(i) / d);
    if (config.kind == RopeKind::kLinear) f /= config.factor;
    if (config.kind == RopeKind::kLlama3)
      f = config.divisors.empty() ? scale_llama3(f, config) : f / config.divisors[i];
    if (config.kind == RopeKind::kYarn) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      f = f * (1 - ramp) + f / config.factor * ramp;
    }
    rope.inv_freq.push_back(static_cast<float>(f));
  }
  return rope;
}

}  // namespace fettle
