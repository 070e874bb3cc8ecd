// merge-linears: q, k and v, or gate and up, read the same value: one linear with a segment for each shares
// the rounding of its input and one barrier. Segments keep their own schemes. Linears that stay
// precise stay alone. Runs after choose-schemes, so that only linears whose inputs have one form
// meet here.
#include "passes/pass.h"

namespace fettle {

Graph merge_linears(const Graph& graph, const PassOptions&, PassNotes*) {
  // The leader of a set of linears with one input is the first of them; the others follow it.
  std::map<ValueId, std::vector<ValueId>> members;
  std::map<ValueId, ValueId> leader_of_input;
  const std::set<ValueId> precise = precise_linears(graph);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const ValueId id = static_cast<ValueId>(i);
    if (node.op != Op::kLinear || precise.count(id)) continue;
    members[leader_of_input.emplace(node.inputs[0], id).first->second].push_back(id);
  }
  std::map<ValueId, ValueId> merged;                     // leader -> the new linear
  std::map<ValueId, std::pair<ValueId, int64_t>> place;  // member -> (leader, first column)
  for (const auto& [leader, all] : members) {
    int64_t column = 0;
    for (const ValueId id : all) {
      place[id] = {leader, column};
      column += graph.nodes[id].type.cols;
    }
  }
  return rewrite(graph, [&](GraphBuilder& builder, const Graph&, const Node& node, ValueId id) {
    const auto it = place.find(id);
    if (it == place.end() || members[it->second.first].size() == 1) return copy_node(builder, node);
    const auto [leader, column] = it->second;
    if (leader == id) {
      std::vector<WeightRef> weights;
      for (const ValueId member : members[leader])
        weights.insert(weights.end(), graph.nodes[member].weights.begin(), graph.nodes[member].weights.end());
      merged[leader] = builder.add(Op::kLinear, node.inputs, std::move(weights));
    }
    return builder.add(Op::kColumns, {merged[leader]}, {}, {{"begin", column}, {"size", node.type.cols}});
  });
}

}  // namespace fettle
