#include "graph/graph.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"

namespace fettle {

namespace {

struct FormName {
  Form form;
  std::string_view name;
};
constexpr FormName kForms[] = {{Form::kF32, "f32"},       {Form::kBF16, "bf16"},
                               {Form::kQ8G32, "q8g32"},   {Form::kQ8T, "q8t"},
                               {Form::kF8G128, "f8g128"}, {Form::kF8G128Ue8m0, "f8g128_ue8m0"},
                               {Form::kRoutes, "routes"}, {Form::kSelection, "selection"}};
constexpr std::string_view kCacheKinds[] = {"full", "latent", "rows"};

}  // namespace

std::string_view form_name(Form form) { return kForms[static_cast<int>(form)].name; }
std::optional<Form> parse_form(std::string_view name) {
  for (const FormName& f : kForms)
    if (f.name == name) return f.form;
  return std::nullopt;
}
std::string_view cache_kind_name(CacheKind kind) { return kCacheKinds[static_cast<int>(kind)]; }
std::optional<CacheKind> parse_cache_kind(std::string_view name) {
  for (int i = 0; i < 3; ++i)
    if (kCacheKinds[i] == name) return static_cast<CacheKind>(i);
  return std::nullopt;
}
std::string type_text(const ValueType& t) {
  return fmt::format("{}[{}, {}]", form_name(t.form), t.rows == Rows::kTokens ? "T" : "R", t.cols);
}

int64_t Node::integer(const std::string& key) const {
  const auto it = attrs.find(key);
  CHECK(it != attrs.end() && std::holds_alternative<int64_t>(it->second), "{} {}", op_info(op).name, key);
  return std::get<int64_t>(it->second);
}
double Node::number(const std::string& key) const {
  const auto it = attrs.find(key);
  CHECK(it != attrs.end() && std::holds_alternative<double>(it->second), "{} {}", op_info(op).name, key);
  return std::get<double>(it->second);
}
const std::string& Node::text(const std::string& key) const {
  const auto it = attrs.find(key);
  CHECK(it != attrs.end() && std::holds_alternative<std::string>(it->second), "{} {}", op_info(op).name, key);
  return std::get<std::string>(it->second);
}

const Weight* Graph::find_weight(std::string_view name) const {
  return const_cast<Graph*>(this)->find_weight(name);
}
Weight* Graph::find_weight(std::string_view name) {
  for (Weight& w : weights)
    if (w.name == name) return &w;
  return nullptr;
}
const Rope* Graph::find_rope(std::string_view name) const {
  for (const Rope& r : ropes)
    if (r.name == name) return &r;
  return nullptr;
}
const CacheSpec* Graph::find_cache(int64_t layer, std::string_view role) const {
  for (const CacheSpec& c : caches)
    if (c.layer == layer && c.role == role) return &c;
  return nullptr;
}
int64_t Graph::parameters() const {
  int64_t sum = 0;
  for (const Weight& w : weights) sum += w.expr->parameters();
  return sum;
}

std::vector<std::string> cache_roles(const Node& node) {
  switch (node.op) {
    case Op::kAttention:
    case Op::kLatentAttention:
      return {"kv"};
    case Op::kIndex:
      return {"index"};
    case Op::kCompress:
      return {node.text("rows")};
    case Op::kWindowAttention:
      return node.has("rate") ? std::vector<std::string>{"kv", "entries"} : std::vector<std::string>{"kv"};
    default:
      return {};
  }
}

WeightIndex index_weights(const Graph& graph) {
  WeightIndex index;
  for (const Weight& w : graph.weights) index.emplace(w.name, w.expr.get());
  return index;
}

int64_t Graph::active_parameters() const {
  int64_t active = parameters();
  bool mixture = false;
  std::set<std::string> looked_up, multiplied;
  for (const Node& node : nodes) {
    for (const WeightRef& ref : node.weights)
      (node.op == Op::kEmbed ? looked_up : multiplied).insert(ref.weight);
    if (node.op != Op::kExperts) continue;
    mixture = true;
    const int64_t k = nodes[node.inputs[1]].type.cols;
    for (const WeightRef& ref : node.weights) {
      const Expr& e = *find_weight(ref.weight)->expr;
      active -= e.parameters() / e.stack() * (e.stack() - k);
    }
  }
  if (!mixture) return active;
  for (const std::string& name : looked_up)
    if (multiplied.count(name) == 0) active -= find_weight(name)->expr->parameters();
  return active;
}

Status check_cache(const CacheSpec& c) {
  const auto in_range = [](int64_t n) { return n > 0 && n <= kMostHeadColumns; };
  if (!in_range(c.kv_heads) || !in_range(c.k_dim) || !in_range(c.v_dim))
    return bad_input("cache of layer {}: {} heads of {}/{}; expected 1 to {} of each", c.layer, c.kv_heads,
                     c.k_dim, c.v_dim, kMostHeadColumns);
  if (c.window < 0 || c.window > kMostColumns || c.rate < 1 || c.rate > kMostRate)
    return bad_input(
        "cache of layer {}: window {}, rate {}; expected a window of at most {}, a rate of 1 to {}", c.layer,
        c.window, c.rate, kMostColumns, kMostRate);
  if (c.kind == CacheKind::kRows && (c.kv_heads != 1 || c.v_dim != c.k_dim || c.type != "f32" || c.rate != 1))
    return bad_input("cache of layer {}: rows are one head of fp32 numbers, one for each position", c.layer);
  if (c.kind == CacheKind::kLatent && c.v_dim > c.k_dim)
    return bad_input("cache of layer {}: values of {} in keys of {}", c.layer, c.v_dim, c.k_dim);
  return {};
}

ValueId GraphBuilder::add(Op op, std::vector<ValueId> inputs, std::vector<WeightRef> weights,
                          std::map<std::string, Attr> attrs) {
  Node node{op, std::move(inputs), std::move(weights), std::move(attrs), layer_, {}};
  auto type = infer_type(*graph_, node);
  CHECK(type.ok(), "{}", type.error().message());
  node.type = *type;
  graph_->nodes.push_back(std::move(node));
  return static_cast<ValueId>(graph_->nodes.size() - 1);
}

std::string GraphBuilder::weight(std::string name, ExprPtr expr) {
  CHECK(!graph_->find_weight(name), "@{} defined twice", name);
  graph_->weights.push_back({name, std::move(expr)});
  return name;
}

std::vector<int> count_uses(const Graph& graph) {
  std::vector<int> uses(graph.nodes.size(), 0);
  for (const Node& node : graph.nodes)
    for (const ValueId input : node.inputs) ++uses[input];
  if (!uses.empty()) ++uses.back();
  return uses;
}

ValueId state_of(const Graph& graph) {
  for (const Node& node : graph.nodes)
    if (node.op == Op::kSelectRows) return node.inputs[0];
  return -1;
}

std::vector<Weight> all_weights(const Graph& graph, const std::optional<Graph>& draft) {
  std::vector<Weight> all = graph.weights;
  if (!draft) return all;
  const WeightIndex known = index_weights(graph);
  for (const Weight& w : draft->weights)
    if (known.count(w.name) == 0) all.push_back(w);
  return all;
}

int64_t draft_parameters(const Graph& graph, const Graph& draft) {
  const WeightIndex known = index_weights(graph);
  int64_t sum = 0;
  for (const Weight& w : draft.weights)
    if (known.count(w.name) == 0) sum += w.expr->parameters();
  return sum;
}

Graph drop_unused_weights(Graph graph) {
  std::set<std::string> used;
  for (const Node& node : graph.nodes)
    for (const WeightRef& ref : node.weights) {
      used.insert(ref.weight);
      used.insert(ref.bias);
    }
  std::erase_if(graph.weights, [&](const Weight& w) { return used.count(w.name) == 0; });
  return graph;
}

}  // namespace fettle
