// The one evaluator of weight expressions: turns an expression into bytes, a few rows at a time, so that
// memory is bounded by a tile whatever the size of the matrix. Packer, exporter, calibration and tests all
// read weights through it.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "graph/graph.h"
#include "runtime/weight_store.h"

namespace fettle {

class Evaluator {
 public:
  explicit Evaluator(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // Rows [begin, begin + count) of one member, canonical bytes in expr.scheme.
  Status rows(const Expr& expr, int64_t member, int64_t begin, int64_t count, std::byte* out) const;
  // The same, decoded: out[count, cols].
  Status rows_f32(const Expr& expr, int64_t member, int64_t begin, int64_t count, float* out) const;
  Result<std::vector<float>> decode(const Expr& expr, int64_t member) const;

 private:
  Result<MatrixView> stored(const Expr& expr, int64_t member) const;
  Status transposed_rows(const Expr& expr, int64_t member, int64_t begin, int64_t count,
                         std::byte* out) const;
  const Checkpoint& checkpoint_;
};

// Bytes of a weight as stored by an artifact or a transient store: packed tiles, or one canonical row for a
// vector.
struct StoredSize {
  int64_t member_bytes = 0, total_bytes = 0;
};
StoredSize stored_size(Scheme scheme, const Shape& shape);

// The scheme in which a weight is computed with exactly: its own if that holds plain numbers, or codes that a
// kernel multiplies by fp32 inputs (f8b128, mxfp4), else fp32.
Scheme exact_scheme(Scheme scheme);

// Evaluates and packs some tiles of a weight, counted through all its members, into out[tiles * tile bytes],
// shared out over the pool; a vector is one tile. `stored`: the expression's scheme or its exact one. The
// same bytes for any number of threads.
Status pack_tiles(const Evaluator& evaluator, const Expr& expr, Scheme stored, Slice tiles, ThreadPool& pool,
                  std::byte* out);

// Where evaluated weights may lie. Beyond `limit` bytes alive at once they go to unnamed files in
// `directory`, which the system writes out when memory is short.
class WeightMemory {
 public:
  WeightMemory() = default;
  WeightMemory(uint64_t limit, std::string directory) : limit_(limit), directory_(std::move(directory)) {}
  struct Block {
    std::byte* data;
    std::shared_ptr<const void> owner;
  };
  Result<Block> allocate(uint64_t bytes);

 private:
  uint64_t limit_ = UINT64_MAX;
  std::string directory_;
  std::shared_ptr<std::atomic<uint64_t>> alive_ = std::make_shared<std::atomic<uint64_t>>(0);
};

// A whole weight in memory of its own.
Result<StoredWeight> evaluate_weight(const Evaluator& evaluator, const Expr& expr, Scheme stored,
                                     ThreadPool& pool, WeightMemory& memory);

// A store over a checkpoint: evaluates on first use; a weight stays as long as somebody holds it.
class TransientStore final : public WeightStore {
 public:
  // exact: every weight in its exact scheme. The graph, checkpoint and pool must outlive the store.
  TransientStore(const Graph& graph, const Checkpoint& checkpoint, bool exact, ThreadPool& pool,
                 WeightMemory memory = {})
      : graphs_{&graph}, evaluator_(checkpoint), exact_(exact), pool_(pool), memory_(std::move(memory)) {}
  // Weights of another graph too: of a draft.
  void add(const Graph& graph) { graphs_.push_back(&graph); }
  Result<StoredWeight> get(const std::string& name) override;

 private:
  std::vector<const Graph*> graphs_;
  Evaluator evaluator_;
  bool exact_;
  ThreadPool& pool_;
  WeightMemory memory_;
  struct Met {
    StoredWeight weight;  // without its owner
    std::weak_ptr<const void> owner;
  };
  std::map<std::string, Met> met_;
};

// Bytes of weights as a store holds them.
uint64_t stored_bytes(std::span<const Weight> weights, bool exact);

}  // namespace fettle
