// From logits to a token. Order (Hugging Face's): logit bias, repetition penalty, frequency and presence
// penalty, temperature, top-k, top-p, min-p, softmax, inverse CDF with one uniform number that is a function
// of (seed, position) alone, so that a reply can be replayed anywhere, whatever else ran beside it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kernels/elementwise/elementwise.h"

namespace fettle {

// Philox4x32-10 (Salmon et al. 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);
// counter (pos low, pos high, 0, 0), key (seed low, seed high), (word 0 >> 8) * 2^-24: in [0, 1).
double uniform_at(uint64_t seed, uint64_t position);

struct SamplingParams {
  double temperature = 0;  // 0: arg-max, lowest id on ties
  int64_t top_k = 0;       // 0: off. Keeps exactly k; ties: lower id first
  double top_p = 1;        // a token is kept while the mass before it (descending, ties by id) is < p
  double min_p = 0;        // kept if p_i >= min_p * max p
  double repetition_penalty =
      1;                         // every id in prompt or output: positive logits divided, negative multiplied
  double frequency_penalty = 0;  // times the count in the output
  double presence_penalty = 0;   // output only
  uint64_t seed = 0;
  bool logprob = true;  // fill in SampledToken::logprob: a pass over the vocabulary
  std::map<int32_t, double> logit_bias;
};

struct SampledToken {
  int32_t id;
  double logprob;  // if asked for, else 0: natural log of the probability under the unmodified logits
                   // (temperature 1)
};

// Reusable scratch; one per thread. Cost must stay one or two passes over the vocabulary: no full sort
// (partial selection only).
class Sampler {
 public:
  // All instruction sets draw the same tokens.
  explicit Sampler(Isa isa = detect_isa()) : kernels_(&find_elementwise_kernels(isa)) {}
  SampledToken sample(std::span<const float> logits, const SamplingParams& params,
                      std::span<const int32_t> prompt, std::span<const int32_t> output, uint64_t position);
  // The distribution sample() draws from, as probabilities by id (for tests and for speculative
  // verification).
  std::vector<double> distribution(std::span<const float> logits, const SamplingParams& params,
                                   std::span<const int32_t> prompt, std::span<const int32_t> output);

 private:
  struct Candidate {
    int32_t id;
    double value;
  };
  // Fills candidates_, in ascending id order, with weights in proportion to the probabilities; returns their
  // total.
  double shape(std::span<const float> logits, const SamplingParams& params, std::span<const int32_t> prompt,
               std::span<const int32_t> output);
  std::span<const float> adjust(std::span<const float> logits, const SamplingParams& params,
                                std::span<const int32_t> prompt, std::span<const int32_t> output);
  float find_block_maxima(std::span<const float> logits);  // and returns the largest of all
  int32_t first_of(std::span<const float> logits, float value) const;
  double sum_of_exp(std::span<const float> logits, float largest, double temperature) const;
  void weigh(float largest, double temperature);
  void gather(std::span<const float> logits, float floor, float largest, double temperature);
  void gather_top_p(std::span<const float> logits, float floor, float largest, const SamplingParams& params);
  void select(std::span<const float> logits, float largest, const SamplingParams& params);
  double log_probability(std::span<const float> logits, int32_t id) const;
  void keep_up_to(Candidate last);
  void keep_top_k(size_t k);
  void keep_top_p(double mass);

  // Candidates whose weights have the same leading bits.
  struct Level {
    double mass;
    size_t count;
  };

  const ElementwiseKernels* kernels_;
  std::vector<float> adjusted_;   // logits after bias and penalties, where there are any
  std::vector<float> block_max_;  // the largest of every 64 logits
  std::vector<int32_t> counts_;   // by id; all zero between calls
  std::vector<Candidate> candidates_, scratch_;
  std::vector<Level> levels_;
};

}  // namespace fettle
