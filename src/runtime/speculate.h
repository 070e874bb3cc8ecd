// Speculative decoding: tokens are proposed cheaply, and one forward over all of them tells what the model
// itself draws after each. Nothing else is accepted, so that a reply is the one that would have been written
// without, token for token.
//
// Exactness by coupling: the token of position p is drawn from the model's distribution with the uniform
// number of (seed, p); a proposal is accepted if and only if it equals the token so drawn. Rejection sampling
// (Leviathan et al. 2023, arXiv 2211.17192, section 2.3) accepts a proposal x, drawn from q, with probability
// min(1, p(x) / q(x)). A deterministic proposal has q(x) = 1: it is accepted with probability p(x), which is
// how often the coupled draw equals it. So nothing is lost for n-grams and for greedy drafts. For a draft
// graph that samples, rejection would accept 1 - TV(p, q) of the tokens at best, as its own uniform numbers
// are independent; here it draws with the very number that the model will use, by inverse CDF over the same
// order of ids, which makes equal draws likely where p and q are close and certain where they are the same.
#pragma once

#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/executor.h"
#include "runtime/sampler.h"

namespace fettle {

// Tokens so far, by what follows what: finds the latest place where most of the last tokens stood before, at
// least two. Pairs are chained from later to earlier ones as in LZ77, so that a token costs one insertion and
// a look-up a bounded walk.
class NgramIndex {
 public:
  void push(int32_t token);
  // What followed there; where that reaches the end, it repeats.
  std::vector<int32_t> propose(int64_t most) const;

 private:
  std::vector<int32_t> tokens_;
  std::unordered_map<uint64_t, int32_t> latest_;  // pair -> place of its second token, if a token follows
  std::vector<int32_t> earlier_;                  // place -> that of the same pair before; -1: none
};

// Proposes for one reply. It is told every token of the prompt and of the reply; loops, over one reply or
// many, are the caller's.
class Speculator {
 public:
  // The sequence may hold earlier turns; the prompt comes behind them. A draft graph needs rows of all
  // earlier positions (Sequence::drafted): without, nothing is proposed.
  Speculator(const Speculation& speculation, const Executor& executor, Sequence& sequence,
             std::span<const int32_t> prompt);

  // A token that was drawn: it comes after all that were told before.
  void push(int32_t token);
  // The last forward held, in its rows from `row` on, `count` tokens that the sequence keeps.
  void note_states(const Executor& executor, int64_t row, int64_t count);
  // Draft rows of the positions whose next token is known: to be called after each piece of a prompt.
  Status follow_prompt(Executor& executor);

  // Proposals for several replies at once, each at most `most`, drawn as `sampling` says. Every sequence
  // holds all tokens told but the last.
  struct Request {
    Speculator* speculator;
    const SamplingParams* sampling;
    int64_t most;
  };
  static Status propose(Executor& executor, Sampler& sampler, std::span<const Request> requests);
  const std::vector<int32_t>& proposals() const { return proposals_; }

 private:
  // Positions whose draft rows are missing, and the tokens after them.
  std::span<const int32_t> undrafted() const;
  void draw(Sampler& sampler, const SamplingParams& sampling, std::span<const float> logits);

  Speculation speculation_;
  Sequence* sequence_;
  int64_t first_;                // position of the first token told
  size_t prompt_;                // tokens of the prompt
  int64_t state_width_ = 0;      // 0: no draft graph
  std::vector<int32_t> tokens_;  // all that were told
  std::vector<float> states_;    // of the positions from sequence_->drafted on
  NgramIndex ngrams_;
  std::vector<int32_t> proposals_;
};

// Draws the tokens after the last one fed and after each proposal, row by row of the logits, as long as what
// is drawn was proposed. `draw` keeps the token, and says whether the reply goes on. Returns how many
// proposals were drawn.
struct Drawn {
  int32_t token;
  bool goes_on;
};
int64_t accept(std::span<const float> logits, int64_t vocab, std::span<const int32_t> proposals,
               const std::function<Drawn(std::span<const float> row)>& draw);

}  // namespace fettle
