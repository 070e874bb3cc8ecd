// fuse-rounding: the operation that makes a value writes its rounded form itself when nothing reads the fp32
// form, so that the wide value never reaches memory.
#include "passes/pass.h"

namespace fettle {

Graph fuse_rounding(const Graph& graph, const PassOptions&, PassNotes*) {
  const std::vector<int> uses = count_uses(graph);
  std::map<ValueId, std::string> form_of;  // producer -> form its only reader, a quantise, asks for
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kQuantise) continue;
    const ValueId producer = node.inputs[0];
    if (uses[producer] == 1 && op_info(graph.nodes[producer].op).may_round &&
        graph.nodes[producer].op != Op::kQuantise && !graph.nodes[producer].has("as"))
      form_of[producer] = node.text("as");
  }
  return rewrite(graph, [&](GraphBuilder& builder, const Graph& out, Node node, ValueId id) {
    if (const auto it = form_of.find(id); it != form_of.end()) node.attrs["as"] = it->second;
    if (node.op == Op::kQuantise && out.nodes[node.inputs[0]].has("as")) return node.inputs[0];
    return copy_node(builder, node);
  });
}

}  // namespace fettle
