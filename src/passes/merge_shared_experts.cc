// merge-shared-experts: an MLP that every token uses beside those of its experts, and that is as wide as one
// of them, becomes one more expert, which every row has with weight 1 after those it chose. Its rounding,
// barriers and sum are then those of the experts. Runs after choose-schemes: members of a stack share one
// scheme, and where the plan gives the two different ones the layer stays as it is.
#include <algorithm>
#include <cmath>

#include "passes/pass.h"

namespace fettle {

namespace {

// add(experts(x, route), down(silu_mul(gate(x), up(x)))), the input of down perhaps rounded.
struct Shared {
  ValueId experts, route, gate, up, silu_mul, input, down;
};

class SharedMerger {
 public:
  SharedMerger(const Graph& graph, PassNotes* notes)
      : graph_(graph), notes_(notes), uses_(count_uses(graph)) {
    for (const Node& node : graph.nodes)
      for (const WeightRef& ref : node.weights) ++weight_uses_[ref.weight];
  }

  Graph run() {
    Graph source = graph_;
    std::map<ValueId, Shared> merged;  // by the add
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto found = find(static_cast<ValueId>(i));
      if (!found || !append(source, *found)) continue;
      merged.emplace(static_cast<ValueId>(i), *found);
      for (const ValueId id : {found->gate, found->up, found->silu_mul, found->input, found->down})
        gone_.insert(id);
      routes_.insert(found->route);
    }
    std::vector<ValueId> renamed(graph_.nodes.size());
    return rewrite(source, [&](GraphBuilder& builder, const Graph&, Node node, ValueId id) -> ValueId {
      if (gone_.count(id)) return -1;
      if (routes_.count(id)) node.attrs["always"] = node.integer_or("always", 0) + 1;
      const auto it = merged.find(id);
      return renamed[id] = it == merged.end() ? copy_node(builder, node) : renamed[it->second.experts];
    });
  }

 private:
  const Node& node(ValueId id) const { return graph_.nodes[id]; }
  const Expr& weight(ValueId id, int i = 0) const {
    return *graph_.find_weight(node(id).weights[i].weight)->expr;
  }
  bool is_plain_linear(ValueId id) const {
    return node(id).op == Op::kLinear && uses_[id] == 1 && node(id).weights.size() == 1 &&
           node(id).weights[0].bias.empty();
  }

  std::optional<Shared> find(ValueId id) const {
    if (node(id).op != Op::kAdd) return std::nullopt;
    auto [experts, down] = std::pair(node(id).inputs[0], node(id).inputs[1]);
    if (node(experts).op != Op::kExperts) std::swap(experts, down);
    if (node(experts).op != Op::kExperts || uses_[experts] != 1 || !is_plain_linear(down))
      return std::nullopt;
    Shared s{experts, node(experts).inputs[1], -1, -1, -1, node(down).inputs[0], down};
    s.silu_mul = node(s.input).op == Op::kQuantise ? node(s.input).inputs[0] : s.input;
    if (node(s.silu_mul).op != Op::kSiluMul || uses_[s.silu_mul] != 1 || uses_[s.input] != 1)
      return std::nullopt;
    s.gate = node(s.silu_mul).inputs[0];
    s.up = node(s.silu_mul).inputs[1];
    const ValueId x = node(experts).inputs[0];
    if (!is_plain_linear(s.gate) || !is_plain_linear(s.up) || uses_[s.route] != 1) return std::nullopt;
    if (node(s.gate).inputs[0] != x || node(s.up).inputs[0] != x)
      return leave(s, "its input is rounded otherwise");
    if (form_name(node(s.input).type.form) != node(experts).text("inner"))
      return leave(s, "its inner values are rounded otherwise");
    if (node(s.silu_mul).number_or("limit", INFINITY) != node(experts).number_or("limit", INFINITY))
      return leave(s, "its inner values are limited otherwise");
    return s;
  }

  // The three stacks with one more member.
  bool append(Graph& source, const Shared& s) {
    const ValueId parts[] = {s.gate, s.up, s.down};
    for (int i = 0; i < 3; ++i) {
      const Expr &stack = weight(s.experts, i), &one = weight(parts[i]);
      if (stack.rows() != one.rows() || stack.cols() != one.cols())
        return leave(s, fmt::format("it is {} wide, an expert {}", weight(s.gate).rows(),
                                    weight(s.experts).rows()))
            .has_value();
      if (stack.scheme != one.scheme || is_carried(stack) != is_carried(one))
        return leave(s, fmt::format("it is kept as {}{}, the experts as {}{}", scheme_name(one.scheme),
                                    is_carried(one) ? " carried" : "", scheme_name(stack.scheme),
                                    is_carried(stack) ? " carried" : ""))
            .has_value();
      if (weight_uses_.at(node(s.experts).weights[i].weight) != 1)
        return leave(s, "another layer uses the same experts").has_value();
    }
    for (int i = 0; i < 3; ++i) {
      Weight& stack = *source.find_weight(node(s.experts).weights[i].weight);
      stack.expr = append_expr({stack.expr, graph_.find_weight(node(parts[i]).weights[0].weight)->expr});
    }
    return true;
  }

  std::optional<Shared> leave(const Shared& s, const std::string& why) const {
    if (notes_)
      notes_->push_back(
          fmt::format("the shared expert of layer {} stays by itself: {}", node(s.experts).layer, why));
    return std::nullopt;
  }

  const Graph& graph_;
  PassNotes* notes_;
  std::vector<int> uses_;
  std::map<std::string, int> weight_uses_;
  std::set<ValueId> gone_, routes_;
};

}  // namespace

Graph merge_shared_experts(const Graph& graph, const PassOptions&, PassNotes* notes) {
  return SharedMerger(graph, notes).run();
}

}  // namespace fettle
