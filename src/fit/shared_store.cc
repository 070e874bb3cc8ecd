#include "fit/shared_store.h"

#include "base/check.h"

namespace fettle {

class BoundStore final : public WeightStore {
 public:
  BoundStore(SharedStore* shared, Graph graph) : shared_(shared), graph_(std::move(graph)) {}
  Result<StoredWeight> get(const std::string& name) override {
    const Weight* weight = graph_.find_weight(name);
    CHECK(weight, "@{}", name);
    auto stored = shared_->get(*weight->expr);
    if (!stored.ok()) return std::move(stored).error().context("weight @" + name);
    return stored;
  }

 private:
  SharedStore* shared_;
  Graph graph_;
};

std::shared_ptr<WeightStore> SharedStore::bind(const Graph& graph) {
  return std::make_shared<BoundStore>(this, graph);
}

Result<StoredWeight> SharedStore::get(const Expr& expr) {
  const bool carried = is_carried(expr);
  const std::string key = carried ? expr_text(expr) : "";
  if (const auto it = carried_.find(key); carried && it != carried_.end()) return it->second;
  TRY(StoredWeight stored, evaluate_weight(evaluator_, expr, expr.scheme, pool_, memory_));
  if (carried) carried_[key] = stored;
  return stored;
}

}  // namespace fettle
