// lay-out: how each weight of an adapted graph is stored. Matrices go into the tiles that every kernel reads,
// vectors stay rows.
#include "kernels/linear/layout.h"
#include "passes/pass.h"

namespace fettle {

std::map<std::string, WeightPlan> lay_out(std::span<const Weight> weights) {
  std::map<std::string, WeightPlan> plans;
  for (const Weight& w : weights) {
    const bool vector = w.expr->shape.size() == 1;
    plans[w.name] = {std::string(scheme_name(w.expr->scheme)), vector ? "row" : "n16",
                     is_carried(*w.expr) ? "carried" : "requantised"};
  }
  return plans;
}

std::string layout_text(std::span<const Weight> weights) {
  const auto plans = lay_out(weights);
  std::string out;
  for (const Weight& w : weights) {
    const WeightPlan& plan = plans.at(w.name);
    const Expr& e = *w.expr;
    const int64_t bytes = plan.layout == "row" ? row_bytes(e.scheme, e.cols())
                                               : e.stack() * packed_bytes(e.scheme, e.rows(), e.cols());
    out += fmt::format("@{} : {} {} {} {} bytes, {}\n", w.name, plan.scheme, shape_text(e.shape), plan.layout,
                       bytes, plan.reason);
  }
  return out;
}

}  // namespace fettle
