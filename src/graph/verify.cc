#include <algorithm>
#include <cmath>
#include <set>

#include "graph/text.h"

namespace fettle {

namespace {

Status verify_ropes(const Graph& graph) {
  std::set<std::string> names;
  for (const Rope& rope : graph.ropes) {
    if (!names.insert(rope.name).second) return bad_input("rope @{} is defined twice", rope.name);
    bool finite = std::isfinite(rope.scale);
    for (const float f : rope.inv_freq) finite = finite && std::isfinite(f);
    if (!finite) return bad_input("rope @{} holds a number that is not finite", rope.name);
  }
  return {};
}

Status verify_header(const Graph& graph) {
  if (graph.vocab <= 0 || graph.hidden <= 0 || graph.layers < 0 || graph.context <= 0)
    return bad_input("graph header: vocab={} hidden={} layers={} context={}; all must be positive",
                     graph.vocab, graph.hidden, graph.layers, graph.context);
  if (std::max({graph.vocab, graph.hidden, graph.context}) > kMostColumns || graph.layers > kMostLayers)
    return bad_input(
        "graph header: vocab={} hidden={} layers={} context={}; expected at most {} layers and {}",
        graph.vocab, graph.hidden, graph.layers, graph.context, kMostLayers, kMostColumns);
  std::set<std::string> names;
  int64_t room = kMostParameters;
  for (const Weight& w : graph.weights) {
    if (!names.insert(w.name).second) return bad_input("weight @{} is defined twice", w.name);
    const auto count = element_count(w.expr->shape);
    if (!count || *count > room)
      return bad_input("weight @{} is {}: with it, the graph has more than {} parameters", w.name,
                       shape_text(w.expr->shape), kMostParameters);
    room -= *count;
  }
  std::set<std::pair<int64_t, std::string>> caches;
  for (const CacheSpec& c : graph.caches) {
    if (c.layer < 0 || c.layer >= graph.layers || !caches.insert({c.layer, c.role}).second)
      return bad_input("cache of layer {} is defined twice or outside 0..{}", c.layer, graph.layers - 1);
    TRY_STATUS(check_cache(c));
  }
  return verify_ropes(graph);
}

Status verify_uses(const Graph& graph) {
  std::set<std::string> used;
  std::set<std::pair<int64_t, std::string>> attended;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (const WeightRef& ref : node.weights) {
      used.insert(ref.weight);
      if (!ref.bias.empty()) used.insert(ref.bias);
    }
    if (node.layer < -1 || node.layer >= graph.layers)
      return bad_input("%{} belongs to layer {} of {}", i, node.layer, graph.layers);
    for (std::string& role : cache_roles(node))
      if (!attended.insert({node.layer, std::move(role)}).second)
        return bad_input("%{}: layer {} attends twice over one cache", i, node.layer);
  }
  for (const CacheSpec& c : graph.caches)
    if (attended.count({c.layer, c.role}) == 0)
      return bad_input("the cache of layer {} is never used", c.layer);
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
  if (graph.nodes.size() > kMostNodes)
    return bad_input("the graph has {} operations; expected at most {}", graph.nodes.size(), kMostNodes);
  const WeightIndex index = index_weights(graph);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const ValueId input : graph.nodes[i].inputs)
      if (input < 0 || input >= static_cast<ValueId>(i))
        return bad_input("%{} reads %{}, which is not defined before it", i, input);
    auto type = infer_type(graph, graph.nodes[i], &index);
    if (!type.ok()) return std::move(type).error().context(fmt::format("%{}", i));
    if (*type != graph.nodes[i].type)
      return bad_input("%{} has the type {}; expected {}", i, type_text(graph.nodes[i].type),
                       type_text(*type));
  }
  TRY_STATUS(verify_uses(graph));
  const ValueType& last = graph.nodes.back().type;
  if (last.form != Form::kF32 || last.rows != Rows::kSelected || last.cols != graph.vocab)
    return bad_input("the last value is {}; expected logits f32[R, {}]", type_text(last), graph.vocab);
  if (graph.nodes.back().op == Op::kColumns)
    return bad_input("the last value is some columns of another; expected one of its own");
  return {};
}

Status verify_draft(const Graph& graph, const Graph& draft) {
  if (draft.vocab != graph.vocab || draft.context != graph.context)
    return bad_input("the draft has vocab={} context={}; the graph has vocab={} context={}", draft.vocab,
                     draft.context, graph.vocab, graph.context);
  const auto width = [](const Graph& g) { return g.nodes[static_cast<size_t>(state_of(g))].type.cols; };
  if (width(draft) != width(graph))
    return bad_input("the draft leaves states of {} columns; the graph's have {}", width(draft),
                     width(graph));
  for (const Node& node : draft.nodes)
    if (node.op == Op::kState && node.type.cols != width(graph))
      return bad_input("the draft reads states of {} columns; the graph's have {}", node.type.cols,
                       width(graph));
  for (const CacheSpec& c : draft.caches)
    if (graph.find_cache(c.layer, c.role))
      return bad_input("the draft's cache of layer {} is one of the graph's", c.layer);
  for (const Node& node : graph.nodes)
    if (node.op == Op::kState) return bad_input("the graph reads a state; only a draft may");
  const WeightIndex weights = index_weights(graph);
  for (const Weight& w : draft.weights) {
    const auto shared = weights.find(w.name);
    if (shared != weights.end() && expr_text(*shared->second) != expr_text(*w.expr))
      return bad_input("weight @{} is one thing in the graph and another in its draft", w.name);
  }
  return {};
}

}  // namespace fettle
