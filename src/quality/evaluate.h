// The measurements of a certificate: two executors, source (exact) and adapted, over the same tokens in
// lockstep, layer by layer (runtime/sweep.h), so that weights pass through once and only one step's logits of
// each are ever kept.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "quality/certificate.h"
#include "quality/source_cache.h"
#include "runtime/executor.h"
#include "runtime/sweep.h"
#include "text/formats/format.h"

namespace fettle {

using TokenWindow = std::vector<int32_t>;

// Text as the certificate reads it: tokenised whole, no special tokens, consecutive windows of `size`, the
// last shorter.
Result<std::vector<TokenWindow>> make_windows(const Tokenizer& tokenizer, const std::string& text,
                                              int64_t size = 512);

// Scores the rows of one chunk of a window; position first_scored goes to the front of `scores`.
struct LogitPair {
  std::span<const float> expected, found;  // [chunk.count, vocab]
  int64_t vocab;
};
void score_chunk(ThreadPool& pool, const Chunk& chunk, const TokenWindow& window, const LogitPair& logits,
                 int64_t first_scored, std::vector<PositionScore>* scores);

struct Comparison {
  std::vector<std::vector<PositionScore>> scores;  // by window
  std::vector<LayerError> by_layer;
  std::optional<double> router_overlap;  // share of the source's chosen experts that are chosen again
};
struct CompareOptions {
  int64_t first_scored = 0;       // positions before it (a prompt) are fed but not scored
  std::string label{};            // of the progress bar
  std::string spill_directory{};  // where states between layers are kept; "": in memory
  // Hidden states and routes are compared on so many windows, spread evenly over all.
  size_t layer_windows = 4;
  // Replayed: the source runs its last part only. Else recorded, if it records.
  SourceTrace* trace = nullptr;
};
// Both executors must take steps of the same size. The same with and without a trace, to the bit.
Result<Comparison> compare(Executor& source, Executor& adapted, std::span<const TokenWindow> windows,
                           const CompareOptions& options);

// Greedy continuations of prompts, all in one batch: [prompt][new tokens]; ends at an end token.
Result<std::vector<TokenWindow>> continue_greedily(Executor& executor, std::span<const TokenWindow> prompts,
                                                   int64_t new_tokens, std::span<const int32_t> end_tokens,
                                                   const std::string& label);

// Tokens equal to the source's from the start of each continuation.
Certificate::GreedyPrefix greedy_prefix(std::span<const TokenWindow> source,
                                        std::span<const TokenWindow> adapted, int64_t of);

// One line of a task file: {"task", "prompt", "answer"}.
struct TaskItem {
  std::string task, prompt, answer;
};
Result<std::vector<TaskItem>> read_tasks(const std::string& path);
constexpr int64_t kTasksAtOnce = 16;
// Greedy answers, the prompt as one user turn; right if what follows </think>, trimmed, equals the answer.
struct TaskMarks {
  std::map<std::string, std::pair<int64_t, int64_t>> right_of;  // task -> (right, asked)
};
Result<TaskMarks> answer_tasks(Executor& executor, const Tokenizer& tokenizer, const ChatFormat& chat,
                               std::span<const TaskItem> items, int64_t max_tokens, const std::string& label);

}  // namespace fettle
