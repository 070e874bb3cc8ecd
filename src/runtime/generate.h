// One reply: feed the prompt, then draw token after token.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "runtime/executor.h"
#include "runtime/sampler.h"

namespace fettle {

struct GenerateOptions {
  SamplingParams sampling;
  int64_t max_tokens = 256;
  int64_t prefill_chunk = 256;
  std::vector<int32_t> end_tokens;  // drawn: the reply ends, and the token is not part of it
};

struct Reply {
  std::vector<int32_t> tokens;
  bool ended = false;  // by an end token; otherwise by max_tokens, the context or the callback
  double prefill_s = 0, decode_s = 0;
};

// Called with each token of the reply; false ends it.
using OnToken = std::function<bool(int32_t id)>;

// The sequence may hold earlier turns: prompt is what is new. Afterwards it holds the prompt and all fed
// reply tokens.
Result<Reply> generate(Executor& executor, Sequence& sequence, std::span<const int32_t> prompt,
                       const GenerateOptions& options, const OnToken& on_token = nullptr);

}  // namespace fettle
