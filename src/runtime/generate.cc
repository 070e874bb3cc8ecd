#include "runtime/generate.h"

#include <algorithm>
#include <chrono>
#include <memory>

namespace fettle {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One reply being written. What it does not do are forwards after the prompt: those are for all replies.
class Writer {
 public:
  static Result<Writer> create(Executor& executor, Sequence& sequence, std::span<const int32_t> prompt,
                               const GenerateOptions& options, const OnToken& on_token) {
    const auto prompt_tokens = static_cast<int64_t>(prompt.size());
    if (prompt.empty()) return make_error(Code::kUsage, "the prompt holds no tokens");
    const int64_t room = executor.graph().context - sequence.length - prompt_tokens;
    if (room < 0)
      return make_error(Code::kUsage, "the prompt has {} tokens; the model's context is {}",
                        sequence.length + prompt_tokens, executor.graph().context);
    Writer writer(executor, sequence, prompt, options, on_token);
    // What the cache can still take of this sequence ends a reply as the context does.
    writer.limit_ = std::min({options.max_tokens, room, executor.cache().room(sequence) - prompt_tokens});
    return writer;
  }

  Status feed_prompt(Executor& executor, Sampler& sampler) {
    const auto start = std::chrono::steady_clock::now();
    const auto chunk =
        static_cast<size_t>(std::max<int64_t>(1, std::min(options_->prefill_chunk, executor.max_tokens())));
    executor.expect_prompt(*sequence_, static_cast<int64_t>(prompt_.size()));
    std::span<const float> logits;
    for (size_t at = 0; at < prompt_.size(); at += chunk) {
      const auto tokens = prompt_.subspan(at, std::min(chunk, prompt_.size() - at));
      const bool last = at + tokens.size() == prompt_.size();
      const SequenceInput input{sequence_, tokens, last ? Logits::kLast : Logits::kNone};
      TRY(logits, executor.forward({&input, 1}));
      speculator_.note_states(executor, 0, static_cast<int64_t>(tokens.size()));
      TRY_STATUS(speculator_.follow_prompt(executor));
    }
    prompt_end_ = sequence_->length;
    reply_.prefill_s = seconds_since(start);
    writing_ = limit_ > 0;
    if (writing_) draw(sampler, logits, executor.graph().vocab);
    return {};
  }

  bool writing() const { return writing_; }
  // Proposals that may be checked: the step that draws the last token needs none.
  Speculator::Request proposals_wanted(int64_t most) {
    return {&speculator_, &sampling_,
            std::min(most, limit_ - static_cast<int64_t>(reply_.tokens.size()) - 1)};
  }
  SequenceInput next_input() {
    fed_ = {reply_.tokens.back()};
    fed_.insert(fed_.end(), speculator_.proposals().begin(), speculator_.proposals().end());
    return {sequence_, fed_, Logits::kAll};
  }
  // The forward has run; the reply's rows begin at `row`.
  void take(Executor& executor, Sampler& sampler, std::span<const float> logits, int64_t row) {
    const int64_t before = sequence_->length - static_cast<int64_t>(fed_.size()),
                  vocab = executor.graph().vocab;
    ++reply_.steps;
    reply_.drafted += static_cast<int64_t>(fed_.size()) - 1;
    reply_.accepted += draw(sampler, logits.subspan(static_cast<size_t>(row * vocab)), vocab);
    // The token drawn last was not fed; what was proposed in vain is forgotten.
    const int64_t kept = prompt_end_ + static_cast<int64_t>(reply_.tokens.size()) - (reply_.ended ? 0 : 1);
    speculator_.note_states(executor, row, kept - before);
    executor.cache().truncate(*sequence_, kept);
  }
  Reply finish() { return std::move(reply_); }

 private:
  Writer(const Executor& executor, Sequence& sequence, std::span<const int32_t> prompt,
         const GenerateOptions& options, const OnToken& on_token)
      : sequence_(&sequence),
        prompt_(prompt),
        options_(&options),
        on_token_(&on_token),
        sampling_(options.sampling),
        speculator_(options.speculation, executor, sequence, prompt) {
    sampling_.logprob = false;  // a reply carries none
  }

  int64_t draw(Sampler& sampler, std::span<const float> logits, int64_t vocab) {
    return accept(logits, vocab, speculator_.proposals(), [&](std::span<const float> row) {
      const auto position = static_cast<uint64_t>(prompt_end_) + reply_.tokens.size();
      const int32_t id = sampler.sample(row, sampling_, prompt_, reply_.tokens, position).id;
      const auto& ends = options_->end_tokens;
      reply_.ended = std::find(ends.begin(), ends.end(), id) != ends.end();
      writing_ = !reply_.ended;
      if (reply_.ended) return Drawn{id, false};
      reply_.tokens.push_back(id);
      speculator_.push(id);
      writing_ = !(*on_token_ && !(*on_token_)(id)) && static_cast<int64_t>(reply_.tokens.size()) < limit_;
      return Drawn{id, writing_};
    });
  }

  Sequence* sequence_;
  std::span<const int32_t> prompt_;
  const GenerateOptions* options_;
  const OnToken* on_token_;
  SamplingParams sampling_;
  Speculator speculator_;
  std::vector<int32_t> fed_;  // by the last forward
  int64_t limit_ = 0, prompt_end_ = 0;
  bool writing_ = false;
  Reply reply_;
};

// Until all replies are written.
Status write_on(Executor& executor, Sampler& sampler, std::span<Writer> writers) {
  std::vector<Writer*> active;
  while (true) {
    active.clear();
    for (Writer& w : writers)
      if (w.writing()) active.push_back(&w);
    if (active.empty()) return {};
    const int64_t most = executor.max_logit_rows() / static_cast<int64_t>(active.size()) - 1;
    std::vector<Speculator::Request> requests;
    for (Writer* w : active) requests.push_back(w->proposals_wanted(most));
    TRY_STATUS(Speculator::propose(executor, sampler, requests));
    std::vector<SequenceInput> inputs;
    for (Writer* w : active) inputs.push_back(w->next_input());
    TRY(const std::span<const float> logits, executor.forward(inputs));
    int64_t row = 0;
    for (size_t i = 0; i < active.size(); ++i) {
      active[i]->take(executor, sampler, logits, row);
      row += static_cast<int64_t>(inputs[i].tokens.size());
    }
  }
}

}  // namespace

Result<Reply> generate(Executor& executor, Sequence& sequence, std::span<const int32_t> prompt,
                       const GenerateOptions& options, const OnToken& on_token) {
  Sampler sampler;
  TRY(Writer writer, Writer::create(executor, sequence, prompt, options, on_token));
  TRY_STATUS(writer.feed_prompt(executor, sampler));
  const auto start = std::chrono::steady_clock::now();
  TRY_STATUS(write_on(executor, sampler, {&writer, 1}));
  Reply reply = writer.finish();
  reply.decode_s = seconds_since(start);
  return reply;
}

Result<std::vector<Reply>> generate_together(Executor& executor,
                                             std::span<const std::vector<int32_t>> prompts,
                                             const GenerateOptions& options) {
  struct Held {
    std::vector<Sequence> sequences;
    KvCache& cache;
    ~Held() {
      for (Sequence& s : sequences) cache.release(s);
    }
  } held{std::vector<Sequence>(prompts.size()), executor.cache()};
  Sampler sampler;
  const OnToken nobody;
  std::vector<Writer> writers;
  for (size_t i = 0; i < prompts.size(); ++i) {
    TRY(Writer writer, Writer::create(executor, held.sequences[i], prompts[i], options, nobody));
    writers.push_back(std::move(writer));
    TRY_STATUS(writers.back().feed_prompt(executor, sampler));
  }
  const auto start = std::chrono::steady_clock::now();
  TRY_STATUS(write_on(executor, sampler, writers));
  std::vector<Reply> replies;
  for (Writer& writer : writers) {
    replies.push_back(writer.finish());
    replies.back().decode_s = seconds_since(start);
  }
  return replies;
}

}  // namespace fettle
