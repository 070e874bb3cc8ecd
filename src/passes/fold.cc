// fold: what can be said shorter is. Equal weight expressions become one weight (a tied head and its
// embedding), views of views one view, slices of slices one slice, encoding to the scheme a carried value
// already has nothing at all.
#include "passes/pass.h"

namespace fettle {

namespace {

ExprPtr fold_expr(const ExprPtr& expr) {
  const Expr& e = *expr;
  if (e.args.empty()) return expr;
  const ExprPtr arg = fold_expr(e.args[0]);
  switch (e.kind) {
    case ExprKind::kEncode:
      return arg->scheme == e.scheme && is_carried(*arg) ? arg : encode_expr(arg, e.scheme, e.name);
    case ExprKind::kSliceRows:
      if (e.rows() == arg->rows()) return arg;
      if (arg->kind == ExprKind::kSliceRows)
        return slice_rows_expr(arg->args[0], arg->begin + e.begin, e.rows());
      return slice_rows_expr(arg, e.begin, e.rows());
    case ExprKind::kConcat: {
      if (e.args.size() == 1) return arg;
      std::vector<ExprPtr> args;
      for (const ExprPtr& a : e.args) args.push_back(fold_expr(a));
      return concat_expr(std::move(args));
    }
    case ExprKind::kAppend: {
      std::vector<ExprPtr> args;
      for (const ExprPtr& a : e.args) args.push_back(fold_expr(a));
      return append_expr(std::move(args));
    }
    case ExprKind::kPermuteRows:
      return permute_rows_expr(arg, e.name, e.heads);
    case ExprKind::kSplitHeads:
      return split_heads_expr(arg, e.stack(), e.begin, e.rows());
    case ExprKind::kTranspose:
      // Of plain numbers: of others, transposing twice has decoded them.
      if (arg->kind == ExprKind::kTranspose && arg->args[0]->scheme == e.scheme) return arg->args[0];
      return transpose_expr(arg);
    case ExprKind::kScaleRows:
      return scale_rows_expr(arg, e.name);
    case ExprKind::kScaleCols:
      return scale_cols_expr(arg, e.name);
    case ExprKind::kSource:
    case ExprKind::kStack:
      return expr;
  }
  return expr;
}

// Columns that only other columns read: these read past them. By node; begins count from what is read then.
struct Views {
  std::vector<bool> skipped;
  std::vector<int64_t> begin;

  explicit Views(const Graph& graph) : skipped(graph.nodes.size()), begin(graph.nodes.size()) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) skipped[i] = graph.nodes[i].op == Op::kColumns;
    for (const Node& node : graph.nodes)
      for (const ValueId input : node.inputs)
        if (node.op != Op::kColumns) skipped[input] = false;
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      if (node.op != Op::kColumns) continue;
      const ValueId input = node.inputs[0];
      begin[i] = node.integer("begin") + (skipped[input] ? begin[input] : 0);
    }
  }
};

}  // namespace

Graph fold(const Graph& graph, const PassOptions&, PassNotes*) {
  Graph source = graph;
  std::map<std::string, std::string> first;  // expression -> the weight that keeps it
  std::map<std::string, std::string> stands_for;
  for (Weight& w : source.weights) {
    w.expr = fold_expr(w.expr);
    stands_for[w.name] = first.emplace(expr_text(*w.expr), w.name).first->second;
  }
  const Views views(graph);
  return rewrite(source, [&](GraphBuilder& builder, const Graph& out, Node node, ValueId id) {
    for (WeightRef& ref : node.weights) {
      ref.weight = stands_for[ref.weight];
      if (!ref.bias.empty()) ref.bias = stands_for[ref.bias];
    }
    if (node.op == Op::kColumns) {
      if (views.skipped[id]) return node.inputs[0];
      node.attrs["begin"] = views.begin[id];
      const Node& input = out.nodes[node.inputs[0]];
      if (node.integer("size") == input.type.cols) return node.inputs[0];
      if (input.op == Op::kColumns) {
        node.attrs["begin"] = node.integer("begin") + input.integer("begin");
        node.inputs[0] = input.inputs[0];
      }
    }
    if (node.op == Op::kQuantise && node.type.form == Form::kF32) return node.inputs[0];
    return copy_node(builder, node);
  });
}

}  // namespace fettle
