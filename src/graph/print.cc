#include "graph/text.h"

namespace fettle {

namespace {

// Shortest text that reads back to the same number and still looks like one with a fraction, so that kinds
// survive the round trip.
std::string decimal(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string node_text(const Graph& graph, size_t id) {
  const Node& node = graph.nodes[id];
  std::string out = fmt::format("%{} : {} = {}(", id, type_text(node.type), op_info(node.op).name);
  for (size_t i = 0; i < node.inputs.size(); ++i) out += fmt::format("{}%{}", i ? ", " : "", node.inputs[i]);
  out += ')';
  if (!node.weights.empty()) {
    out += " w=[";
    for (size_t i = 0; i < node.weights.size(); ++i) {
      out += fmt::format("{}@{}", i ? ", " : "", node.weights[i].weight);
      if (!node.weights[i].bias.empty()) out += fmt::format(" + @{}", node.weights[i].bias);
    }
    out += ']';
  }
  for (const auto& [key, value] : node.attrs) {
    if (const auto* i = std::get_if<int64_t>(&value)) out += fmt::format(" {}={}", key, *i);
    if (const auto* d = std::get_if<double>(&value)) out += fmt::format(" {}={}", key, decimal(*d));
    if (const auto* s = std::get_if<std::string>(&value)) out += fmt::format(" {}={}", key, *s);
  }
  if (node.layer >= 0) out += fmt::format(" layer={}", node.layer);
  return out + '\n';
}

}  // namespace

std::string print_graph(const Graph& graph) {
  std::string out;
  out += fmt::format("graph \"{}\" vocab={} hidden={} layers={} context={}\n", graph.architecture,
                     graph.vocab, graph.hidden, graph.layers, graph.context);
  for (const Rope& rope : graph.ropes) {
    out += fmt::format("rope @{} {} scale={} inv_freq=[", rope.name, rope.pairs ? "pairs" : "halves",
                       rope.scale);
    for (size_t i = 0; i < rope.inv_freq.size(); ++i)
      out += fmt::format("{}{}", i ? ", " : "", rope.inv_freq[i]);
    out += "]\n";
  }
  for (const CacheSpec& c : graph.caches) {
    out += fmt::format("cache {} {}{} kv_heads={} k_dim={} v_dim={} type={}", c.layer,
                       c.role == "kv" ? "" : c.role + " ", cache_kind_name(c.kind), c.kv_heads, c.k_dim,
                       c.v_dim, c.type);
    if (c.window != 0) out += fmt::format(" window={}", c.window);
    if (c.rate != 1) out += fmt::format(" rate={}", c.rate);
    out += '\n';
  }
  for (const Weight& w : graph.weights) out += fmt::format("weight @{} = {}\n", w.name, expr_text(*w.expr));
  for (size_t i = 0; i < graph.nodes.size(); ++i) out += node_text(graph, i);
  return out;
}

}  // namespace fettle
