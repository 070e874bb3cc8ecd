// The one evaluator of weight expressions: turns an expression into bytes, a few rows at a time, so that
// memory is bounded by a tile whatever the size of the matrix. Packer, exporter, calibration and tests all
// read weights through it.
#pragma once

#include <cstddef>
#include <map>
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
  const Checkpoint& checkpoint_;
};

// Bytes of a weight as stored by an artifact or a transient store: packed tiles, or one canonical row for a
// vector.
struct StoredSize {
  int64_t member_bytes = 0, total_bytes = 0;
};
StoredSize stored_size(Scheme scheme, const Shape& shape);

// Evaluates and packs one member of a weight into out[stored_size().member_bytes], tiles shared out over the
// pool. as_f32: in fp32 whatever its scheme. The same bytes for any number of threads.
Status pack_member(const Evaluator& evaluator, const Expr& expr, int64_t member, bool as_f32,
                   ThreadPool& pool, std::byte* out);

// A whole weight in memory of its own.
Result<StoredWeight> evaluate_weight(const Evaluator& evaluator, const Expr& expr, bool as_f32,
                                     ThreadPool& pool);

// A store over a checkpoint: evaluates on first use and keeps the result until released.
class TransientStore final : public WeightStore {
 public:
  // exact: every weight in fp32. The graph, checkpoint and pool must outlive the store.
  TransientStore(const Graph& graph, const Checkpoint& checkpoint, bool exact, ThreadPool& pool)
      : graph_(graph), evaluator_(checkpoint), exact_(exact), pool_(pool) {}
  Result<StoredWeight> get(const std::string& name) override;

 private:
  const Graph& graph_;
  Evaluator evaluator_;
  bool exact_;
  ThreadPool& pool_;
  std::map<std::string, StoredWeight> alive_;
};

}  // namespace fettle
