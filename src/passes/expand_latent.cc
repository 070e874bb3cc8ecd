// expand-latent: latent attention gets its key matrices a second time, as rows, so that keys can be made from
// latents. Where only chosen positions are attended to, all rows stay absorbed: few are shared. Runs before
// all others, so that the scheme of the new weight is chosen with its siblings'.
#include "passes/pass.h"

namespace fettle {

Graph expand_latent(const Graph& graph, const PassOptions& options, PassNotes*) {
  if (options.expand_grid == 0) return graph;
  return rewrite(graph, [](GraphBuilder& builder, const Graph& out, Node node, ValueId) {
    if (node.op == Op::kLatentAttention && node.weights.size() == 2 && node.inputs.size() == 3) {
      const std::string& key = node.weights[0].weight;
      const ExprPtr expr = out.find_weight(key)->expr;
      node.weights.push_back({builder.weight(key + "_rows", transpose_expr(expr)), ""});
    }
    return copy_node(builder, node);
  });
}

// In multiplications a head: making keys and values of one position costs latent * (plain + value), as does
// absorbing the matrices for one row; a pair of query and key costs 2 * latent + rotated absorbed and plain +
// rotated + value expanded. A cell far from the beginning gains where its rows outnumber the first over the
// difference of the others; nearer to it smaller cells gain, so half of that is asked for.
int64_t choose_expand_grid(const Graph& graph) {
  constexpr int64_t kLeast = 64, kMost = 512;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kLatentAttention) continue;
    const Expr &key = *graph.find_weight(node.weights[0].weight)->expr,
               &value = *graph.find_weight(node.weights[1].weight)->expr;
    const int64_t latent = key.rows(), made = key.cols() + value.rows(), saved = 2 * latent - made;
    for (int64_t grid = kLeast; grid <= kMost && saved > 0; grid *= 2)
      if (2 * grid * saved >= latent * made) return grid;
    return 0;
  }
  return 0;
}

}  // namespace fettle
