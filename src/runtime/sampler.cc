#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>

#include "base/check.h"

namespace fettle {

namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr size_t kBlock = kMaximaBlock;

// Descending value, ties by ascending id: a total order, so that every selection is unique.
template <typename Candidate>
bool ahead(const Candidate& a, const Candidate& b) {
  return (a.value > b.value) | ((a.value == b.value) & (a.id < b.id));
}

// Weights are at most 1: thirty-two levels an octave, the last one for all below 2^-64.
constexpr size_t kLevels = 64 * 32 + 2;
size_t level_of(double weight) {
  const uint64_t below_one = (std::bit_cast<uint64_t>(1.0) >> 47) - (std::bit_cast<uint64_t>(weight) >> 47);
  return std::min<uint64_t>(below_one, kLevels - 1);
}

template <typename Candidate>
double total_value(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.value;
  return total;
}

bool greedy(const SamplingParams& params) { return !(params.temperature > 0); }

bool changes_logits(const SamplingParams& params) {
  return !params.logit_bias.empty() || params.repetition_penalty != 1 || params.frequency_penalty != 0 ||
         params.presence_penalty != 0;
}

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

double uniform_at(uint64_t seed, uint64_t position) {
  const auto words =
      philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>(words[0] >> 8) * 0x1p-24;
}

std::span<const float> Sampler::adjust(std::span<const float> logits, const SamplingParams& params,
                                       std::span<const int32_t> prompt, std::span<const int32_t> output) {
  if (!changes_logits(params)) return logits;
  const auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits.size(); };
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : params.logit_bias)
    if (known(id)) adjusted_[static_cast<size_t>(id)] += static_cast<float>(bias);
  counts_.resize(logits.size());
  // An id is penalised where its count says that it was not seen before; the counts are cleared on the way
  // back.
  const auto repeat = [&](int32_t id) {
    if (!known(id) || counts_[static_cast<size_t>(id)]++ != 0) return;
    float& x = adjusted_[static_cast<size_t>(id)];
    x = static_cast<float>(x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty);
  };
  const auto clear = [&](std::span<const int32_t> ids) {
    for (const int32_t id : ids)
      if (known(id)) counts_[static_cast<size_t>(id)] = 0;
  };
  if (params.repetition_penalty != 1) {
    for (const int32_t id : prompt) repeat(id);
    for (const int32_t id : output) repeat(id);
    clear(prompt);
    clear(output);
  }
  if (params.frequency_penalty != 0 || params.presence_penalty != 0) {
    for (const int32_t id : output)
      if (known(id)) ++counts_[static_cast<size_t>(id)];
    for (const int32_t id : output) {
      if (!known(id) || counts_[static_cast<size_t>(id)] == 0) continue;
      const double penalty =
          params.frequency_penalty * counts_[static_cast<size_t>(id)] + params.presence_penalty;
      adjusted_[static_cast<size_t>(id)] -= static_cast<float>(penalty);
      counts_[static_cast<size_t>(id)] = 0;
    }
  }
  return adjusted_;
}

float Sampler::find_block_maxima(std::span<const float> logits) {
  block_max_.resize((logits.size() + kBlock - 1) / kBlock);
  return kernels_->block_maxima(logits.data(), static_cast<int64_t>(logits.size()), block_max_.data());
}

int32_t Sampler::first_of(std::span<const float> logits, float value) const {
  for (size_t b = 0; b < block_max_.size(); ++b) {
    if (block_max_[b] != value) continue;
    size_t i = b * kBlock;
    while (i < logits.size() && logits[i] != value) ++i;
    return i < logits.size() ? static_cast<int32_t>(i) : 0;
  }
  return 0;
}

// The total only decides where a cut falls and is reported as a log: fp32 with fp32's error serves both.
double Sampler::sum_of_exp(std::span<const float> logits, float largest, double temperature) const {
  return kernels_->sum_exp(logits.data(), largest, static_cast<float>(1 / temperature),
                           static_cast<int64_t>(logits.size()));
}

// Every id whose logit is at least `floor`, ascending, with its weight e^((x - largest) / temperature).
void Sampler::gather(std::span<const float> logits, float floor, float largest, double temperature) {
  floor = std::max(floor, std::numeric_limits<float>::lowest());  // never a masked id
  const auto reached = [floor](float block) { return block >= floor; };
  candidates_.resize(kBlock *
                     static_cast<size_t>(std::count_if(block_max_.begin(), block_max_.end(), reached)));
  size_t count = 0;
  for (size_t b = 0; b < block_max_.size(); ++b) {
    if (!reached(block_max_[b])) continue;
    // Every logit is written, and the next one over it unless it is kept: a branch would be mispredicted.
    const size_t end = std::min((b + 1) * kBlock, logits.size());
    for (size_t i = b * kBlock; i < end; ++i) {
      candidates_[count] = {static_cast<int32_t>(i), static_cast<double>(logits[i])};
      count += logits[i] >= floor;
    }
  }
  candidates_.resize(count);
  weigh(largest, temperature);
}

void Sampler::weigh(float largest, double temperature) {
  double run[512];
  for (size_t at = 0; at < candidates_.size(); at += std::size(run)) {
    const size_t count = std::min(std::size(run), candidates_.size() - at);
    for (size_t i = 0; i < count; ++i)
      run[i] = (candidates_[at + i].value - static_cast<double>(largest)) / temperature;
    kernels_->exp_doubles(run, static_cast<int64_t>(count));
    for (size_t i = 0; i < count; ++i) candidates_[at + i].value = run[i];
  }
}

// Gathers a part of the descending order that surely holds the mass of top-p, then cuts it there.
void Sampler::gather_top_p(std::span<const float> logits, float floor, float largest,
                           const SamplingParams& params) {
  const double wanted = params.top_p * sum_of_exp(logits, largest, params.temperature);
  for (const double reach : {6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, HUGE_VAL}) {
    const auto reached = static_cast<float>(static_cast<double>(largest) - reach * params.temperature);
    gather(logits, std::max(floor, reached), largest, params.temperature);
    if (total_value(candidates_) >= wanted) return keep_top_p(wanted);
    if (reached <= floor) return;  // all that is above the floor lies within top-p
  }
}

// Without a branch, as in gather.
void Sampler::keep_up_to(Candidate last) {
  size_t count = 0;
  for (const Candidate& c : candidates_) {
    const bool kept = !ahead(last, c);
    candidates_[count] = c;
    count += kept;
  }
  candidates_.resize(count);
}

void Sampler::keep_top_k(size_t k) {
  if (candidates_.size() <= k) return;
  scratch_ = candidates_;
  const auto last = scratch_.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(scratch_.begin(), last, scratch_.end(), ahead<Candidate>);
  keep_up_to(*last);
}

// Keeps an id while the mass before it is less than `mass`. Weights are first counted by their leading bits,
// which order them; where the mass is reached within such a level, its range that holds the last one kept is
// halved.
void Sampler::keep_top_p(double mass) {
  if (candidates_.empty()) return;
  levels_.assign(kLevels, {0, 0});
  for (const Candidate& c : candidates_) {
    Level& level = levels_[level_of(c.value)];
    level.mass += c.value;
    ++level.count;
  }
  double before = 0;
  size_t cut_level = 0, left = candidates_.size();
  for (; left > levels_[cut_level].count && before + levels_[cut_level].mass < mass; ++cut_level) {
    before += levels_[cut_level].mass;
    left -= levels_[cut_level].count;
  }
  scratch_.clear();
  for (const Candidate& c : candidates_)
    if (level_of(c.value) == cut_level) scratch_.push_back(c);
  auto begin = scratch_.begin(), end = scratch_.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, ahead<Candidate>);
    double half = 0;
    for (auto c = begin; c != middle; ++c) half += c->value;
    if (before + half < mass) {
      before += half;
      begin = middle;
    } else {
      end = middle;
    }
  }
  keep_up_to(*begin);
}

namespace {

// min-p compares with the largest logit alone, so it bounds what is worth gathering; the margins cover
// rounding.
float min_p_floor(double largest, const SamplingParams& params) {
  if (!(params.min_p > 0)) return kLowest;
  const double reach = params.temperature * (1e-3 - std::log(std::min(params.min_p, 1.0)));
  return static_cast<float>(largest - reach - 1e-6 * std::fabs(largest));
}

// The k-th largest block maximum: k blocks hold a logit each that is at least as large, so the k largest are
// all above it.
float top_k_floor(std::vector<float> block_maxima, size_t k) {
  if (k > block_maxima.size()) return kLowest;
  const auto last = block_maxima.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(block_maxima.begin(), last, block_maxima.end(), std::greater<>());
  return *last;
}

}  // namespace

// The ids that top-k, top-p and min-p leave, with weights that are not yet normalised.
void Sampler::select(std::span<const float> logits, float largest, const SamplingParams& params) {
  const float floor = min_p_floor(static_cast<double>(largest), params);
  const bool top_p = params.top_p < 1;
  if (params.top_k > 0 && static_cast<uint64_t>(params.top_k) < logits.size()) {
    const auto k = static_cast<size_t>(params.top_k);
    gather(logits, top_k_floor(block_max_, k), largest, params.temperature);
    keep_top_k(k);
    if (top_p) keep_top_p(params.top_p * total_value(candidates_));
  } else if (top_p) {
    gather_top_p(logits, floor, largest, params);
  } else {
    gather(logits, floor, largest, params.temperature);
  }
  if (params.min_p > 0) {
    const double least = std::min(params.min_p, 1.0);  // the largest weight is 1
    std::erase_if(candidates_, [&](const Candidate& c) { return c.value < least; });
  }
}

double Sampler::shape(std::span<const float> original, const SamplingParams& params,
                      std::span<const int32_t> prompt, std::span<const int32_t> output) {
  CHECK(!original.empty(), "no logits");
  std::span<const float> logits = adjust(original, params, prompt, output);
  float largest = find_block_maxima(logits);
  if (greedy(params) || largest == kLowest) {
    candidates_.assign(1, {first_of(logits, largest), 1.0});
    return 1;
  }
  if (std::isinf(largest)) {  // differences of infinities are not numbers
    constexpr float kMost = std::numeric_limits<float>::max();
    if (logits.data() != adjusted_.data()) adjusted_.assign(logits.begin(), logits.end());
    for (float& x : adjusted_) x = x > kMost ? kMost : x;
    logits = adjusted_;
    largest = find_block_maxima(logits);
  }
  select(logits, largest, params);
  return total_value(candidates_);
}

double Sampler::log_probability(std::span<const float> logits, int32_t id) const {
  const float largest = *std::max_element(block_max_.begin(), block_max_.end());
  const float x = logits[static_cast<size_t>(id)];
  if (!std::isfinite(largest)) return x == largest && x > 0 ? 0.0 : -HUGE_VAL;
  if (!(x > kLowest)) return -HUGE_VAL;
  return static_cast<double>(x) - static_cast<double>(largest) - std::log(sum_of_exp(logits, largest, 1));
}

SampledToken Sampler::sample(std::span<const float> logits, const SamplingParams& params,
                             std::span<const int32_t> prompt, std::span<const int32_t> output,
                             uint64_t position) {
  const double total = shape(logits, params, prompt, output);
  int32_t id = candidates_.back().id;
  if (candidates_.size() > 1) {
    const double target = uniform_at(params.seed, position) * total;
    double reached = 0;
    for (const Candidate& c : candidates_) {
      reached += c.value;
      if (reached <= target) continue;
      id = c.id;
      break;
    }
  }
  if (!params.logprob) return {id, 0};
  if (changes_logits(params)) find_block_maxima(logits);
  return {id, log_probability(logits, id)};
}

std::vector<double> Sampler::distribution(std::span<const float> logits, const SamplingParams& params,
                                          std::span<const int32_t> prompt, std::span<const int32_t> output) {
  const double total = shape(logits, params, prompt, output);
  std::vector<double> probabilities(logits.size(), 0.0);
  for (const Candidate& c : candidates_) probabilities[static_cast<size_t>(c.id)] = c.value / total;
  return probabilities;
}

}  // namespace fettle
