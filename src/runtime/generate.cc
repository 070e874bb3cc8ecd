#include "runtime/generate.h"

#include <algorithm>
#include <chrono>

namespace fettle {

namespace {
double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace

Result<Reply> generate(Executor& executor, Sequence& sequence, std::span<const int32_t> prompt,
                       const GenerateOptions& options, const OnToken& on_token) {
  if (prompt.empty()) return make_error(Code::kUsage, "the prompt holds no tokens");
  const int64_t room = executor.graph().context - sequence.length - static_cast<int64_t>(prompt.size());
  if (room < 0)
    return make_error(Code::kUsage, "the prompt has {} tokens; the model's context is {}",
                      sequence.length + static_cast<int64_t>(prompt.size()), executor.graph().context);
  // What the cache can still take of this sequence ends a reply as the context does.
  const int64_t held = executor.cache().room(sequence);
  Reply reply;
  auto start = std::chrono::steady_clock::now();
  TRY(std::span<const float> logits, executor.feed(sequence, prompt, options.prefill_chunk));
  reply.prefill_s = seconds_since(start);
  start = std::chrono::steady_clock::now();
  Sampler sampler;
  SamplingParams sampling = options.sampling;
  sampling.logprob = false;  // a reply carries none
  const int64_t limit = std::min({options.max_tokens, room, held - static_cast<int64_t>(prompt.size())});
  while (static_cast<int64_t>(reply.tokens.size()) < limit) {
    const int32_t id =
        sampler.sample(logits, sampling, prompt, reply.tokens, static_cast<uint64_t>(sequence.length)).id;
    if (std::find(options.end_tokens.begin(), options.end_tokens.end(), id) != options.end_tokens.end()) {
      reply.ended = true;
      break;
    }
    reply.tokens.push_back(id);
    if (on_token && !on_token(id)) break;
    if (static_cast<int64_t>(reply.tokens.size()) == limit) break;
    const SequenceInput input{&sequence, {&reply.tokens.back(), 1}, Logits::kLast};
    TRY(logits, executor.forward({&input, 1}));
  }
  reply.decode_s = seconds_since(start);
  return reply;
}

}  // namespace fettle
