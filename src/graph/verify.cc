#include <set>

#include "graph/text.h"

namespace fettle {

namespace {

Status verify_header(const Graph& graph) {
  if (graph.vocab <= 0 || graph.hidden <= 0 || graph.layers < 0 || graph.context <= 0)
    return bad_input("graph header: vocab={} hidden={} layers={} context={}; all must be positive",
                     graph.vocab, graph.hidden, graph.layers, graph.context);
  std::set<std::string> names;
  for (const Weight& w : graph.weights)
    if (!names.insert(w.name).second) return bad_input("weight @{} is defined twice", w.name);
  std::set<int64_t> layers;
  for (const CacheSpec& c : graph.caches) {
    if (c.layer < 0 || c.layer >= graph.layers || !layers.insert(c.layer).second)
      return bad_input("cache of layer {} is defined twice or outside 0..{}", c.layer, graph.layers - 1);
    if (c.kv_heads <= 0 || c.k_dim <= 0 || c.v_dim <= 0 || c.k_dim > 4096 || c.v_dim > 4096 ||
        c.kv_heads > 4096)
      return bad_input("cache of layer {}: {} heads of {}/{} are out of range", c.layer, c.kv_heads, c.k_dim,
                       c.v_dim);
  }
  return {};
}

Status verify_uses(const Graph& graph) {
  std::set<std::string> used;
  std::set<int64_t> attended;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (const WeightRef& ref : node.weights) {
      used.insert(ref.weight);
      if (!ref.bias.empty()) used.insert(ref.bias);
    }
    if (node.layer >= graph.layers)
      return bad_input("%{} belongs to layer {} of {}", i, node.layer, graph.layers);
    if (node.op == Op::kAttention && !attended.insert(node.layer).second)
      return bad_input("%{}: layer {} attends twice over one cache", i, node.layer);
  }
  for (const Weight& w : graph.weights)
    if (used.count(w.name) == 0) return bad_input("weight @{} is never used", w.name);
  const auto uses = count_uses(graph);
  for (size_t i = 0; i < uses.size(); ++i)
    if (uses[i] == 0) return bad_input("%{} ({}) is never read", i, op_info(graph.nodes[i].op).name);
  return {};
}

}  // namespace

Status verify_graph(const Graph& graph) {
  TRY_STATUS(verify_header(graph));
  if (graph.nodes.empty()) return bad_input("the graph has no operations");
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const ValueId input : graph.nodes[i].inputs)
      if (input < 0 || input >= static_cast<ValueId>(i))
        return bad_input("%{} reads %{}, which is not defined before it", i, input);
    auto type = infer_type(graph, graph.nodes[i]);
    if (!type.ok()) return std::move(type).error().context(fmt::format("%{}", i));
    if (*type != graph.nodes[i].type)
      return bad_input("%{} has the type {}; expected {}", i, type_text(graph.nodes[i].type),
                       type_text(*type));
  }
  TRY_STATUS(verify_uses(graph));
  const ValueType& last = graph.nodes.back().type;
  if (last.form != Form::kF32 || last.cols != graph.vocab)
    return bad_input("the last value is {}; expected logits f32[R, {}]", type_text(last), graph.vocab);
  return {};
}

}  // namespace fettle
