// Packed weights shared between many graphs over one checkpoint: a carried weight is evaluated once for all
// of them and stays until forget(); what a graph codes anew lives as long as that graph holds it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "weights/evaluate.h"

namespace fettle {

class SharedStore {
 public:
  SharedStore(const Checkpoint& checkpoint, ThreadPool& pool, WeightMemory memory)
      : evaluator_(checkpoint), pool_(pool), memory_(std::move(memory)) {}

  // A store for one graph.
  std::shared_ptr<WeightStore> bind(const Graph& graph);
  void forget() { carried_.clear(); }

 private:
  friend class BoundStore;
  Result<StoredWeight> get(const Expr& expr);

  Evaluator evaluator_;
  ThreadPool& pool_;
  WeightMemory memory_;
  std::map<std::string, StoredWeight> carried_;  // by expression
};

}  // namespace fettle
