// choose-schemes: wraps weights in `encode` as the plan says and rounds the inputs of linears to the form
// their kernels read. Weights without an entry keep the source's bytes. Precise linears and their inputs stay
// as they are; so do vectors.
#include "passes/pass.h"

namespace fettle {

Form input_form(Scheme scheme) {
  switch (scheme) {
    case Scheme::kF32:
    case Scheme::kF16:
      return Form::kF32;
    case Scheme::kBF16:
    case Scheme::kF8B128:
      return Form::kBF16;
    case Scheme::kI8C:
      return Form::kQ8T;
    default:
      return Form::kQ8G32;
  }
}

namespace {

bool is_small_float(Scheme scheme) { return scheme == Scheme::kF8B128 || scheme == Scheme::kMXFP4; }
// Codes that kernels multiply by fp32 numbers.
bool takes_floats(Scheme scheme) { return is_float_scheme(scheme) || is_small_float(scheme); }

class SchemeChooser {
 public:
  SchemeChooser(const Graph& graph, const PassOptions& options, PassNotes* notes)
      : graph_(graph), options_(options), notes_(notes), precise_(precise_linears(graph)) {}

  Graph run() {
    Graph source = graph_;
    for (const auto& [name, scheme] : options_.schemes) encode(source, name, scheme);
    for (const Node& node : graph_.nodes)
      if (node.op == Op::kLatentAttention && !options_.exact) make_alike(source, node);
    return rewrite(source, [&](GraphBuilder& builder, const Graph& out, Node node, ValueId id) {
      if (node.op == Op::kLinear) return linear(builder, out, node, precise_.count(id) > 0);
      if (node.op == Op::kExperts) return experts(builder, out, node);
      if (node.op == Op::kLatentAttention || node.op == Op::kGroupedLinear) {
        const Expr& key = *out.find_weight(node.weights[0].weight)->expr;
        node.attrs["inner"] = std::string(form_name(plain_form(key.scheme)));
      }
      return copy_node(builder, node);
    });
  }

 private:
  void note(std::string text) {
    if (notes_) notes_->push_back(std::move(text));
  }

  void encode(Graph& graph, const std::string& name, const std::string& scheme_text) {
    Weight* weight = graph.find_weight(name);
    const auto scheme = parse_scheme(scheme_text);
    if (!weight || !scheme || weight->expr->shape.size() < 2)
      return note("no matrix @" + name + " to be coded as " + scheme_text);
    if (weight->expr->scheme == *scheme) return;
    if (!row_fits(*scheme, weight->expr->cols()))
      return note(fmt::format("@{} stays {}: rows of {} cannot be coded as {}", name,
                              scheme_name(weight->expr->scheme), weight->expr->cols(), scheme_text));
    weight->expr = encode_expr(weight->expr, *scheme, options_.encode_method);
  }

  // Without the makers' rounding: they fold these matrices into others, unrounded.
  Form plain_form(Scheme scheme, bool precise = false) const {
    return options_.exact || (precise && takes_floats(scheme)) ? Form::kF32 : input_form(scheme);
  }
  Form form_for(Scheme scheme, bool precise = false) const {
    return options_.small_float_inputs && is_small_float(scheme) ? *options_.small_float_inputs
                                                                 : plain_form(scheme, precise);
  }

  // The two halves of one projection share the form of their inputs. Where its code does not allow for
  // transposing, both become bf16.
  void make_alike(Graph& graph, const Node& node) {
    Weight &key = *graph.find_weight(node.weights[0].weight),
           &value = *graph.find_weight(node.weights[1].weight);
    if (key.expr->scheme != value.expr->scheme || is_carried(*key.expr) != is_carried(*value.expr))
      for (Weight* weight : {&key, &value}) code_as(*weight, Scheme::kBF16);
    if (node.weights.size() < 3) return;
    // Keys as rows read what values read. Codes of blocks along rows cannot be turned: 8 bits lose least.
    Weight& rows = *graph.find_weight(node.weights[2].weight);
    const Form inner = input_form(value.expr->scheme);
    if (input_form(rows.expr->scheme) != inner)
      code_as(rows, inner == Form::kQ8G32  ? Scheme::kQ8_0
                    : inner == Form::kBF16 ? Scheme::kBF16
                                           : value.expr->scheme);
  }
  void code_as(Weight& weight, Scheme scheme) {
    if (weight.expr->scheme != scheme) weight.expr = encode_expr(weight.expr, scheme, options_.encode_method);
  }

  // One rounded copy of a value per form, shared by all its readers.
  ValueId rounded(GraphBuilder& builder, ValueId x, Form form) {
    if (form == Form::kF32) return x;
    const auto [it, fresh] = rounded_.emplace(std::pair(x, form), -1);
    if (fresh) it->second = builder.add(Op::kQuantise, {x}, {}, {{"as", std::string(form_name(form))}});
    return it->second;
  }

  ValueId linear(GraphBuilder& builder, const Graph& out, Node& node, bool precise) {
    const Scheme scheme = out.find_weight(node.weights[0].weight)->expr->scheme;
    node.inputs[0] = rounded(builder, node.inputs[0], form_for(scheme, precise));
    return copy_node(builder, node);
  }

  ValueId experts(GraphBuilder& builder, const Graph& out, Node& node) {
    const auto form = [&](int i) { return form_for(out.find_weight(node.weights[i].weight)->expr->scheme); };
    if (form(0) == form(1)) node.inputs[0] = rounded(builder, node.inputs[0], form(0));
    node.attrs["inner"] = std::string(form_name(form(2)));
    return copy_node(builder, node);
  }

  const Graph& graph_;
  const PassOptions& options_;
  PassNotes* notes_;
  std::set<ValueId> precise_;
  std::map<std::pair<ValueId, Form>, ValueId> rounded_;
};

}  // namespace

Graph choose_schemes(const Graph& graph, const PassOptions& options, PassNotes* notes) {
  return SchemeChooser(graph, options, notes).run();
}

std::set<ValueId> precise_linears(const Graph& graph) {
  const auto inputs = [](const Node& node) -> std::vector<int> {
    switch (node.op) {
      case Op::kRoute:
      case Op::kRouteByToken:
        return {0};
      case Op::kHyperMix:
        return {1};
      case Op::kCompress:
        return {0, 1};
      case Op::kIndex:
        return {1, 2};
      default:
        return {};
    }
  };
  // What the keys of an index go through on their way.
  const auto passes_on = [](Op op) {
    return op == Op::kLayerNorm || op == Op::kRmsNorm || op == Op::kRope || op == Op::kSimulate;
  };
  std::set<ValueId> precise;
  for (const Node& node : graph.nodes)
    for (const int i : inputs(node)) {
      ValueId id = node.inputs[i];
      while (passes_on(graph.nodes[id].op)) id = graph.nodes[id].inputs[0];
      if (graph.nodes[id].op == Op::kLinear) precise.insert(id);
    }
  return precise;
}

Graph merge_linears(const Graph&, const PassOptions&, PassNotes*);

std::vector<WeightGroup> weight_groups(const Graph& source) {
  const Graph merged = merge_linears(source, {}, nullptr);
  const std::set<ValueId> precise = precise_linears(merged);
  std::vector<WeightGroup> groups;
  for (size_t i = 0; i < merged.nodes.size(); ++i) {
    const Node& node = merged.nodes[i];
    const bool chooses =
        node.op == Op::kExperts || (node.op == Op::kLinear && !precise.count(static_cast<ValueId>(i)));
    if (!chooses) continue;
    WeightGroup group;
    group.layer = node.layer;
    for (const WeightRef& ref : node.weights) {
      const Expr& expr = *merged.find_weight(ref.weight)->expr;
      const size_t dot = ref.weight.rfind('.');
      group.name +=
          group.name.empty() ? ref.weight : "+" + ref.weight.substr(dot == std::string::npos ? 0 : dot + 1);
      group.weights.push_back(ref.weight);
      group.parameters += expr.parameters();
      group.largest_rows = std::max(group.largest_rows, expr.rows());
      group.cols = expr.cols();
      group.carried_blocks = group.carried_blocks || !is_float_scheme(expr.scheme);
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

std::string kind_of(const WeightGroup& group) {
  const std::string prefix = fmt::format("layers.{}.", group.layer);
  return group.name.starts_with(prefix) ? group.name.substr(prefix.size()) : group.name;
}

void add_draft_schemes(const Graph& source, const Graph& draft, std::map<std::string, std::string>* schemes) {
  std::map<std::string, std::map<std::string, int>> votes;  // by kind; "": of all kinds
  for (const WeightGroup& group : weight_groups(source)) {
    const auto it = schemes->find(group.weights[0]);
    const std::string scheme = it == schemes->end() ? "" : it->second;  // "": as the source has it
    ++votes[kind_of(group)][scheme];
    ++votes[""][scheme];
  }
  const auto most = [](const std::map<std::string, int>& counts) {
    const auto fewer = [](const auto& a, const auto& b) { return a.second < b.second; };
    return counts.empty() ? "" : std::max_element(counts.begin(), counts.end(), fewer)->first;
  };
  const WeightIndex shared = index_weights(source);
  for (const WeightGroup& group : weight_groups(draft)) {
    const auto kind = votes.find(kind_of(group));
    const std::string scheme = most(kind == votes.end() ? votes[""] : kind->second);
    for (const std::string& weight : group.weights)
      if (shared.count(weight) == 0 && !scheme.empty()) schemes->emplace(weight, scheme);
  }
}

}  // namespace fettle
