#include "runtime/speculate.h"

#include <algorithm>

#include "base/check.h"

namespace fettle {

namespace {

constexpr int kMostPlaces = 32;       // looked at for one proposal
constexpr size_t kLongestMatch = 16;  // tokens compared

uint64_t pair_key(int32_t a, int32_t b) {
  return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
}

}  // namespace

void NgramIndex::push(int32_t token) {
  // The pair before the new token now has one that follows it.
  if (const size_t n = tokens_.size(); n >= 2) {
    const auto place = static_cast<int32_t>(n - 1);
    const auto [it, fresh] = latest_.emplace(pair_key(tokens_[n - 2], tokens_[n - 1]), place);
    earlier_.push_back(fresh ? -1 : it->second);
    it->second = place;
  } else {
    earlier_.push_back(-1);
  }
  tokens_.push_back(token);
}

std::vector<int32_t> NgramIndex::propose(int64_t most) const {
  const size_t n = tokens_.size();
  if (n < 2) return {};
  const auto found = latest_.find(pair_key(tokens_[n - 2], tokens_[n - 1]));
  if (found == latest_.end()) return {};
  size_t best_length = 0, best = 0;
  int32_t place = found->second;
  for (int i = 0; i < kMostPlaces && place >= 0; ++i, place = earlier_[static_cast<size_t>(place) + 1]) {
    const auto end = static_cast<size_t>(place);
    size_t length = 2;
    while (length < kLongestMatch && length <= end && tokens_[end - length] == tokens_[n - 1 - length])
      ++length;
    if (length > best_length) best_length = length, best = end;
  }
  std::vector<int32_t> proposals;
  for (size_t from = best + 1; static_cast<int64_t>(proposals.size()) < most; ++from)
    proposals.push_back(from < n ? tokens_[from] : proposals[from - n]);
  return proposals;
}

Speculator::Speculator(const Speculation& speculation, const Executor& executor, Sequence& sequence,
                       std::span<const int32_t> prompt)
    : speculation_(speculation), sequence_(&sequence), first_(sequence.length), prompt_(prompt.size()) {
  if (speculation.kind == DraftKind::kMtp && executor.has_draft() && sequence.drafted == sequence.length)
    state_width_ = executor.state_width();
  for (const int32_t token : prompt) push(token);
}

void Speculator::push(int32_t token) {
  tokens_.push_back(token);
  if (speculation_.kind == DraftKind::kNgram) ngrams_.push(token);
}

void Speculator::note_states(const Executor& executor, int64_t row, int64_t count) {
  for (int64_t r = row; state_width_ > 0 && r < row + count; ++r)
    states_.insert(states_.end(), executor.state(r), executor.state(r) + state_width_);
}

std::span<const int32_t> Speculator::undrafted() const {
  const int64_t known =
                    first_ + static_cast<int64_t>(tokens_.size()) - 1,  // positions with a token after them
      end = std::min(known, sequence_->length), begin = sequence_->drafted;
  if (end <= begin) return {};
  return std::span(tokens_).subspan(static_cast<size_t>(begin + 1 - first_),
                                    static_cast<size_t>(end - begin));
}

Status Speculator::follow_prompt(Executor& executor) {
  const std::span<const int32_t> tokens = undrafted();
  if (state_width_ == 0 || tokens.empty()) return {};
  const DraftInput input{sequence_, sequence_->drafted, tokens, states_.data(), Logits::kNone};
  TRY_STATUS(executor.draft({&input, 1}));
  const auto count = static_cast<int64_t>(tokens.size());
  sequence_->drafted += count;
  states_.erase(states_.begin(), states_.begin() + count * state_width_);
  return {};
}

// As the model will draw the token of the position behind all that were told and proposed.
void Speculator::draw(Sampler& sampler, const SamplingParams& sampling, std::span<const float> logits) {
  const size_t told = tokens_.size();
  tokens_.insert(tokens_.end(), proposals_.begin(), proposals_.end());
  SamplingParams bare = sampling;
  bare.logprob = false;
  const std::span<const int32_t> all = tokens_;
  const auto position = static_cast<uint64_t>(first_) + tokens_.size();
  proposals_.push_back(sampler.sample(logits, bare, all.first(prompt_), all.subspan(prompt_), position).id);
  tokens_.resize(told);
}

Status Speculator::propose(Executor& executor, Sampler& sampler, std::span<const Request> requests) {
  struct Drafting {
    Speculator* s;
    const SamplingParams* sampling;
    size_t most;
    int64_t row = 0;  // of its last state in the last draft
  };
  std::vector<Drafting> drafting;
  for (const Request& request : requests) {
    Speculator& s = *request.speculator;
    s.proposals_.clear();
    const int64_t most = std::min(request.most, s.speculation_.tokens);
    if (most <= 0) continue;
    if (s.speculation_.kind == DraftKind::kNgram) s.proposals_ = s.ngrams_.propose(most);
    if (s.state_width_ > 0) drafting.push_back({&s, request.sampling, static_cast<size_t>(most)});
  }
  const auto vocab = static_cast<size_t>(executor.graph().vocab);
  while (!drafting.empty()) {
    // First the rows whose tokens are known since, on the model's own states; then guess after guess.
    std::vector<DraftInput> inputs;
    int64_t rows = 0;
    for (Drafting& d : drafting) {
      Speculator& s = *d.s;
      const bool first = s.proposals_.empty();
      const std::span<const int32_t> tokens =
          first ? s.undrafted() : std::span<const int32_t>(&s.proposals_.back(), 1);
      const int64_t position = s.sequence_->length - 1 + static_cast<int64_t>(s.proposals_.size());
      inputs.push_back({s.sequence_, first ? s.sequence_->drafted : position, tokens,
                        first ? s.states_.data() : executor.draft_state(d.row)});
      CHECK(!tokens.empty());
      rows += static_cast<int64_t>(tokens.size());
      d.row = rows - 1;
    }
    TRY(const std::span<const float> logits, executor.draft(inputs));
    for (size_t i = 0; i < drafting.size(); ++i) {
      Speculator& s = *drafting[i].s;
      if (s.proposals_.empty()) {
        s.sequence_->drafted = s.sequence_->length;
        s.states_.clear();
      }
      s.draw(sampler, *drafting[i].sampling, logits.subspan(i * vocab, vocab));
    }
    std::erase_if(drafting, [](const Drafting& d) { return d.s->proposals_.size() == d.most; });
  }
  return {};
}

int64_t accept(std::span<const float> logits, int64_t vocab, std::span<const int32_t> proposals,
               const std::function<Drawn(std::span<const float> row)>& draw) {
  for (size_t row = 0;; ++row) {
    const Drawn drawn = draw(logits.subspan(row * static_cast<size_t>(vocab), static_cast<size_t>(vocab)));
    const bool proposed = row < proposals.size() && drawn.token == proposals[row];
    if (!proposed || !drawn.goes_on) return static_cast<int64_t>(row) + proposed;
  }
}

}  // namespace fettle
