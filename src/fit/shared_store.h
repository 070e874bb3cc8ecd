// Packed weights shared between many graphs over one checkpoint: the same expression is evaluated once. What
// only one graph used is dropped with it, so memory is one packing of the model plus what is being tried.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "weights/evaluate.h"

namespace fettle {

class SharedStore {
 public:
  SharedStore(const Checkpoint& checkpoint, ThreadPool& pool) : evaluator_(checkpoint), pool_(pool) {}

  // A store for one graph. Weights whose expression is carried stay for the next graph.
  std::shared_ptr<WeightStore> bind(const Graph& graph);

 private:
  friend class BoundStore;
  Result<StoredWeight> get(const Expr& expr);

  Evaluator evaluator_;
  ThreadPool& pool_;
  std::map<std::string, StoredWeight> carried_;  // by expression
};

}  // namespace fettle
