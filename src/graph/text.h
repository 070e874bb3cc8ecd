// The graph as text: what `fettle show graph` prints, artifacts store (graph.fir) and golden tests compare.
// print and parse are inverse; parse verifies. See docs/ir.md.
#pragma once

#include <string>
#include <string_view>

#include "graph/graph.h"

namespace fettle {

std::string print_graph(const Graph& graph);
// `what` names the source in errors, which carry the line number.
Result<Graph> parse_graph(std::string_view text, std::string_view what);
Result<ExprPtr> parse_expr(std::string_view text, std::string_view what);

// Everything a graph promises: types as inferred, weights used and defined once, caches and ropes in order,
// last value = logits.
Status verify_graph(const Graph& graph);
// What a draft graph promises beside its main graph, both verified: the same tokens, weights of one name the
// same, caches of its own, and states of one width: that of the main graph, its own, and what it reads.
Status verify_draft(const Graph& graph, const Graph& draft);

}  // namespace fettle
