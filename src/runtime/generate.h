// Replies: feed the prompt, then draw token after token, of one sequence or of several side by side.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "runtime/executor.h"
#include "runtime/sampler.h"
#include "runtime/speculate.h"

namespace fettle {

struct GenerateOptions {
  SamplingParams sampling{};
  int64_t max_tokens = 256;
  int64_t prefill_chunk = 256;
  std::vector<int32_t> end_tokens{};  // drawn: the reply ends, and the token is not part of it
  Speculation speculation{};          // changes how fast tokens come, never which
};

struct Reply {
  std::vector<int32_t> tokens;
  bool ended = false;  // by an end token; otherwise by max_tokens, the context or the callback
  double prefill_s = 0, decode_s = 0;
  int64_t steps = 0;                  // forwards after the prompt
  int64_t drafted = 0, accepted = 0;  // tokens proposed, and those of them that were drawn
};

// Called with each token of the reply; false ends it.
using OnToken = std::function<bool(int32_t id)>;

// The sequence may hold earlier turns: prompt is what is new. Afterwards it holds the prompt and all fed
// reply tokens.
Result<Reply> generate(Executor& executor, Sequence& sequence, std::span<const int32_t> prompt,
                       const GenerateOptions& options, const OnToken& on_token = nullptr);

// The same for several prompts, each a sequence of its own that is gone afterwards: the tokens are those of
// replies alone. decode_s is that of all of them.
Result<std::vector<Reply>> generate_together(Executor& executor,
                                             std::span<const std::vector<int32_t>> prompts,
                                             const GenerateOptions& options);

}  // namespace fettle
