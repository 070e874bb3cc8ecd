// The one executor: runs a graph, as a plan says, over weights from a store. `forward` takes any mix of
// sequences, each with any number of new tokens. A row's logits depend only on its sequence: not on the
// batch, the chunking or the threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "runtime/kv_cache.h"
#include "runtime/weight_store.h"

namespace fettle {

struct Model {
  Graph graph;
  Plan plan;
  std::shared_ptr<WeightStore> weights;
  std::optional<Graph> draft{};  // over the same weights and the same sequences
};

struct ExecutorOptions {
  int threads = 0;                     // 0: all processors of this process
  std::shared_ptr<ThreadPool> pool{};  // a team shared with others; null: one of its own, of `threads`
  Isa isa = Isa::kScalar;              // the highest level to use; detect_isa() for all of this machine
  int64_t max_tokens = 256;            // rows of one forward
  int64_t max_logit_rows = 64;
  int64_t cache_tokens = 2048;
  bool stream = false;  // fetch the weights of one layer at a time, for every step anew
};

enum class Logits : uint8_t { kNone, kLast, kAll };

// New tokens of one sequence. Their positions follow on from sequence->length, which forward advances.
struct SequenceInput {
  Sequence* sequence;
  std::span<const int32_t> tokens;
  Logits logits = Logits::kLast;
};

// Rows for the draft graph: row i is that of position first + i, takes the state that the model (or, for
// guesses that follow guesses, the draft) left there, and the token after it. It is kept in the draft's cache
// under that position, in place of what was there; rows see those before them only, so that whatever lies
// behind does not matter. The sequence's length stays as it is.
struct DraftInput {
  Sequence* sequence;
  int64_t first;
  std::span<const int32_t> tokens;
  const float* states;  // [tokens, state_width()]; copied before anything is computed
  Logits logits = Logits::kLast;
};

// Sees an fp32 value [rows, cols] (row distance ld) just after it was computed; of routes, the numbers of the
// experts, of selections those of the entries.
using Observer = std::function<void(ValueId id, const float* data, int64_t rows, int64_t cols, int64_t ld)>;

class Executor {
 public:
  static Result<std::unique_ptr<Executor>> create(Model model, const ExecutorOptions& options);
  ~Executor();

  // Logits of the wanted rows, in order of the inputs: [rows, vocab], valid until the next call.
  Result<std::span<const float>> forward(std::span<const SequenceInput> inputs);

  // The next `tokens` tokens fed are a prompt: forward may compute them as such. feed says so itself.
  void expect_prompt(Sequence& sequence, int64_t tokens) const;
  // Feeds a prompt in steps of at most `chunk`; hands each step's logits (all rows) to `sink`, if any, else
  // the last row only.
  using LogitsSink = std::function<void(int64_t first_row, std::span<const float> logits, int64_t rows)>;
  Result<std::span<const float>> feed(Sequence& sequence, std::span<const int32_t> tokens, int64_t chunk,
                                      const LogitsSink& sink = nullptr);

  bool has_draft() const;
  // Logits for the tokens after the next, as forward returns them.
  Result<std::span<const float>> draft(std::span<const DraftInput> inputs);
  // The state of a row of the last forward, of the last draft. Only where there is a draft.
  int64_t state_width() const;
  const float* state(int64_t row) const;
  const float* draft_state(int64_t row) const;

  void observe(std::vector<ValueId> values, Observer observer);

  const Graph& graph() const;
  int64_t max_tokens() const;      // of one forward
  int64_t max_logit_rows() const;  // of one forward
  KvCache& cache();
  ThreadPool& pool();
  uint64_t weight_bytes() const;      // packed bytes of the weights fetched so far, each once
  uint64_t activation_bytes() const;  // buffers of the executor

 private:
  friend class Sweep;
  struct Impl;
  explicit Executor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fettle
