// Sampled replies keep the model's distribution: over many seeds, the token in the place of a proposal, and
// the one after it, occur as often as the model's own probabilities say. Rules of acceptance that are wrong
// are told apart by the same statistic.
#include <cmath>

#include "speculation/testing.h"

namespace fettle {
namespace {

constexpr int kSeeds = 4000;
constexpr int64_t kKept = 6;  // ids left by top-k: as many categories

SamplingParams sampling(uint64_t seed) {
  SamplingParams params;
  params.temperature = 1.3;
  params.top_k = kKept;
  params.seed = seed;
  return params;
}

using Counts = std::map<int32_t, int>;

// Pearson's statistic against the probabilities; of k categories, chi-square with k - 1 degrees of freedom.
double chi_square(const Counts& counts, const std::vector<double>& probabilities) {
  int total = 0;
  for (const auto& [id, n] : counts) total += n;
  double sum = 0;
  for (size_t id = 0; id < probabilities.size(); ++id) {
    const auto it = counts.find(static_cast<int32_t>(id));
    const double found = it == counts.end() ? 0 : it->second, expected = probabilities[id] * total;
    if (expected > 0) sum += (found - expected) * (found - expected) / expected;
    if (expected == 0 && found > 0) return INFINITY;
  }
  return sum;
}
// The value that one in 10^5 exceeds, of 5 degrees of freedom; a test of few statistics by fixed seeds.
constexpr double kCritical = 30.86;

// Whether a proposal, of which the model's draw was `drawn`, stands.
using Rule = std::function<bool(int32_t proposed, int32_t drawn, const std::vector<double>& p)>;

class Distribution : public testing::Test {
 protected:
  Distribution() : model_(open_test_model("tiny-reasoner")), executor_(*model_.executor) {
    // In the middle of a sentence of prose, where many tokens are likely.
    const auto tokenizer = must(Tokenizer::load(model_.text_files));
    prompt_ = must(tokenizer->encode("The function returns a list of the", false));
  }

  std::vector<double> probabilities(const std::vector<int32_t>& text) {
    Sequence sequence;
    const auto logits = must(executor_.feed(sequence, text, 64));
    const auto p = sampler_.distribution(logits, sampling(0), {}, {});
    executor_.cache().release(sequence);
    return p;
  }

  // Two tokens of a reply: one in the place of the first proposal, one after it. The prompt's own forward
  // gives the token before them, which is fixed, so that all seeds share a context.
  std::vector<int32_t> two_tokens(uint64_t seed, const Rule& rule) {
    Sequence sequence;
    std::vector<int32_t> text = prompt_;
    Speculator speculator({DraftKind::kMtp, 1}, executor_, sequence, std::span(text).first(text.size() - 1));
    must(executor_.feed(sequence, std::span(text).first(text.size() - 1), 64));
    speculator.note_states(executor_, 0, sequence.length);
    EXPECT_TRUE(speculator.follow_prompt(executor_).ok());
    speculator.push(text.back());
    const SamplingParams params = sampling(seed);
    const Speculator::Request request{&speculator, &params, 1};
    EXPECT_TRUE(Speculator::propose(executor_, sampler_, {&request, 1}).ok());
    const std::vector<int32_t> fed = {text.back(), speculator.proposals().at(0)};
    const auto position = static_cast<uint64_t>(text.size());
    const SequenceInput input{&sequence, fed, Logits::kAll};
    const auto logits = must(executor_.forward({&input, 1}));
    const auto vocab = static_cast<size_t>(executor_.graph().vocab);
    std::vector<int32_t> out;
    const auto draw = [&](std::span<const float> row) {
      out.push_back(sampler_.sample(row, params, {}, {}, position + out.size()).id);
      return Drawn{out.back(), true};
    };
    if (!rule) {
      accepted_ += accept(logits, static_cast<int64_t>(vocab), std::span(fed).subspan(1), draw);
    } else {
      const auto p = sampler_.distribution(logits.first(vocab), params, {}, {});
      draw(logits.first(vocab));
      if (rule(fed[1], out[0], p)) {
        out[0] = fed[1];
        draw(logits.subspan(vocab, vocab));
      }
    }
    executor_.cache().release(sequence);
    return out;
  }

  struct Statistics {
    double first, second;  // of the token in the place of the proposal, and of the one after the likeliest
  };
  Statistics statistics(const Rule& rule) {
    Counts first, second;
    const auto p = probabilities(prompt_);
    const auto likeliest = static_cast<int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      const auto tokens = two_tokens(seed, rule);
      ++first[tokens[0]];
      if (tokens[0] == likeliest && tokens.size() > 1) ++second[tokens[1]];
    }
    std::vector<int32_t> text = prompt_;
    text.push_back(likeliest);
    EXPECT_GT(second.size(), 1U);
    return {chi_square(first, p), chi_square(second, probabilities(text))};
  }

  OpenedModel model_;
  Executor& executor_;
  Sampler sampler_;
  std::vector<int32_t> prompt_;
  int64_t accepted_ = 0;
};

TEST_F(Distribution, IsTheModels) {
  const Statistics found = statistics(nullptr);
  EXPECT_LT(found.first, kCritical);
  EXPECT_LT(found.second, kCritical);
  EXPECT_GT(accepted_, kSeeds / 10);
  EXPECT_LT(accepted_, kSeeds);
  std::printf("chi-square %.1f and %.1f of 5 degrees of freedom; %.1f %% of drafts accepted\n", found.first,
              found.second, 100.0 * static_cast<double>(accepted_) / kSeeds);
}

TEST_F(Distribution, WrongRulesAreFoundOut) {
  // Whatever is proposed stands: the draft's distribution.
  EXPECT_GT(statistics([](int32_t, int32_t, const auto&) { return true; }).first, kCritical);
  // What is likely enough stands ("typical acceptance").
  EXPECT_GT(statistics([](int32_t proposed, int32_t, const auto& p) {
              return p[static_cast<size_t>(proposed)] > 0.1;
            }).first,
            kCritical);
}

}  // namespace
}  // namespace fettle
