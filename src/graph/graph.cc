#include "graph/graph.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"

namespace fettle {

namespace {

const std::vector<OpInfo>& op_table() {
  static const std::vector<OpInfo> table = {
      {Op::kEmbed, "embed", 0, 1, 1, false, {}, {}, {}, false},
      {Op::kRmsNorm, "rms_norm", 1, 1, 1, false, {"heads"}, {"eps"}, {}, true},
      {Op::kQuantise, "quantise", 1, 0, 0, false, {}, {}, {}, true},
      {Op::kLinear, "linear", 1, 1, 64, true, {}, {}, {}, false},
      {Op::kColumns, "columns", 1, 0, 0, false, {"begin", "size"}, {}, {}, false},
      {Op::kRope, "rope", 1, 0, 0, false, {"heads", "at"}, {}, {"rope"}, false},
      {Op::kAttention, "attention", 3, 0, 0, false, {"heads"}, {"scale"}, {}, true},
      {Op::kAdd, "add", 2, 0, 0, false, {}, {}, {}, false},
      {Op::kSiluMul, "silu_mul", 2, 0, 0, false, {}, {}, {}, true},
      {Op::kSelectRows, "select_rows", 1, 0, 0, false, {}, {}, {}, false},
      {Op::kLatentAttention, "latent_attention", 3, 2, 2, false, {"heads"}, {"scale"}, {"inner"}, true},
      {Op::kRoute,
       "route",
       1,
       0,
       1,
       false,
       {"k", "normalise", "groups", "kept"},
       {"scale"},
       {"score", "rank"},
       false},
      {Op::kExperts, "experts", 2, 3, 3, false, {}, {}, {"inner"}, false},
  };
  return table;
}

struct FormName {
  Form form;
  std::string_view name;
};
constexpr FormName kForms[] = {{Form::kF32, "f32"},       {Form::kBF16, "bf16"},
                               {Form::kQ8G32, "q8g32"},   {Form::kQ8T, "q8t"},
                               {Form::kF8G128, "f8g128"}, {Form::kF8G128Ue8m0, "f8g128_ue8m0"},
                               {Form::kRoutes, "routes"}};

}  // namespace

std::string_view form_name(Form form) { return kForms[static_cast<int>(form)].name; }
std::optional<Form> parse_form(std::string_view name) {
  for (const FormName& f : kForms)
    if (f.name == name) return f.form;
  return std::nullopt;
}
std::string type_text(const ValueType& t) {
  return fmt::format("{}[{}, {}]", form_name(t.form), t.rows == Rows::kTokens ? "T" : "R", t.cols);
}

const OpInfo& op_info(Op op) { return op_table()[static_cast<size_t>(op)]; }
const OpInfo* find_op(std::string_view name) {
  for (const OpInfo& info : op_table())
    if (info.name == name) return &info;
  return nullptr;
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
const CacheSpec* Graph::find_cache(int64_t layer) const {
  for (const CacheSpec& c : caches)
    if (c.layer == layer) return &c;
  return nullptr;
}
int64_t Graph::parameters() const {
  int64_t sum = 0;
  for (const Weight& w : weights) sum += w.expr->parameters();
  return sum;
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
  return {};
}

namespace {

// What infer_type needs of a node's surroundings, with errors that name the operation.
class Inference {
 public:
  Inference(const Graph& graph, const Node& node, const WeightIndex* index)
      : graph_(graph), node_(node), index_(index), info_(op_info(node.op)) {}

  Result<ValueType> run() {
    TRY_STATUS(check_carried());
    TRY(ValueType type, derive());
    if (type.cols > kMostColumns) return wrong("{} columns; expected at most {}", type.cols, kMostColumns);
    if (node_.has("as")) type.form = *parse_form(node_.text("as"));
    return type;
  }

 private:
  const ValueType& in(int i) const { return graph_.nodes[node_.inputs[i]].type; }
  const Expr* find(const std::string& name) const {
    if (index_) {
      const auto it = index_->find(name);
      return it == index_->end() ? nullptr : it->second;
    }
    const Weight* found = graph_.find_weight(name);
    return found ? found->expr.get() : nullptr;
  }
  const Expr& weight(int i) const { return *find(node_.weights[i].weight); }
  template <typename... Args>
  Error wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return bad_input("{}: {}", info_.name, fmt::format(format, std::forward<Args>(args)...));
  }

  Status check_carried() const {
    if (static_cast<int>(node_.inputs.size()) != info_.inputs)
      return wrong("has {} inputs; expected {}", node_.inputs.size(), info_.inputs);
    for (const ValueId id : node_.inputs)
      if (id < 0 || id >= static_cast<ValueId>(graph_.nodes.size()))
        return wrong("reads %{}, which is not defined before it", id);
    const int weights = static_cast<int>(node_.weights.size());
    if (weights < info_.min_weights || weights > info_.max_weights)
      return wrong("has {} weights; expected {} to {}", weights, info_.min_weights, info_.max_weights);
    for (const WeightRef& ref : node_.weights) {
      const Expr* weight = find(ref.weight);
      if (!weight) return wrong("weight @{} is not defined", ref.weight);
      if (ref.bias.empty()) continue;
      if (!info_.bias) return wrong("takes no bias");
      const Expr* bias = find(ref.bias);
      if (!bias) return wrong("bias @{} is not defined", ref.bias);
      if (bias->shape.size() != 1 || bias->cols() != weight->rows())
        return wrong("bias @{} is {}; @{} has {} rows", ref.bias, shape_text(bias->shape), ref.weight,
                     weight->rows());
    }
    return check_attributes();
  }

  Status check_attributes() const {
    size_t known = 0;
    const auto check = [&](const auto& names, auto tag) -> Status {
      for (const std::string_view name : names) {
        const auto it = node_.attrs.find(std::string(name));
        if (it == node_.attrs.end() || !std::holds_alternative<decltype(tag)>(it->second))
          return wrong("attribute '{}' is missing or of the wrong kind", name);
        ++known;
      }
      return {};
    };
    TRY_STATUS(check(info_.integers, int64_t{}));
    TRY_STATUS(check(info_.numbers, double{}));
    TRY_STATUS(check(info_.texts, std::string{}));
    for (const std::string_view name : info_.numbers)
      if (const double value = node_.number(std::string(name)); !std::isfinite(value))
        return wrong("attribute '{}' is {}; expected a finite number", name, value);
    if (node_.has("as")) {
      const auto* as = std::get_if<std::string>(&node_.attrs.at("as"));
      if (!info_.may_round || !as || !parse_form(*as) || *parse_form(*as) == Form::kRoutes)
        return wrong("attribute 'as' must be one of bf16, q8g32, q8t, f32, on an operation that can round");
      ++known;
    }
    if (known != node_.attrs.size()) return wrong("has an attribute it does not know");
    return {};
  }

  Status heads_divide(int64_t cols) const {
    const int64_t heads = node_.integer("heads");
    if (heads <= 0 || cols % heads != 0) return wrong("{} columns do not divide into {} heads", cols, heads);
    return {};
  }

  Result<ValueType> derive() const {
    for (size_t i = 0; i < node_.inputs.size(); ++i) {
      const Form form = in(static_cast<int>(i)).form;
      const bool any_form = node_.op == Op::kLinear || (node_.op == Op::kExperts);
      if (!any_form && form != Form::kF32)
        return wrong("input {} is {}; expected f32", i, type_text(in(static_cast<int>(i))));
    }
    switch (node_.op) {
      case Op::kEmbed:
        return embed();
      case Op::kRmsNorm:
        return rms_norm();
      case Op::kQuantise:
        return quantise();
      case Op::kLinear:
        return linear();
      case Op::kColumns:
        return columns();
      case Op::kRope:
        return rope();
      case Op::kAttention:
        return attention();
      case Op::kAdd:
      case Op::kSiluMul:
        if (in(0) != in(1))
          return wrong("inputs are {} and {}; expected equal types", type_text(in(0)), type_text(in(1)));
        return in(0);
      case Op::kSelectRows:
        return select_rows();
      case Op::kLatentAttention:
        return latent_attention();
      case Op::kRoute:
        return route();
      case Op::kExperts:
        return experts();
    }
    return wrong("unknown operation");
  }

  // Positions belong to the tokens of the batch: values of the selected rows have none.
  Status all_tokens() const {
    for (int i = 0; i < info_.inputs; ++i)
      if (in(i).rows != Rows::kTokens)
        return wrong("input {} is {}; expected a value of all tokens", i, type_text(in(i)));
    return {};
  }

  Result<ValueType> embed() const {
    if (weight(0).shape.size() != 2 || weight(0).rows() != graph_.vocab)
      return wrong("table is {}; vocab is {}", shape_text(weight(0).shape), graph_.vocab);
    return ValueType{Form::kF32, Rows::kTokens, weight(0).cols()};
  }
  Result<ValueType> rms_norm() const {
    TRY_STATUS(heads_divide(in(0).cols));
    const int64_t width = in(0).cols / node_.integer("heads");
    if (weight(0).shape.size() != 1 || weight(0).cols() != width)
      return wrong("gain is {}; a part has {} columns", shape_text(weight(0).shape), width);
    if (!(node_.number("eps") >= 0)) return wrong("eps is {}; expected >= 0", node_.number("eps"));
    return in(0);
  }
  Result<ValueType> quantise() const {
    if (!node_.has("as")) return wrong("attribute 'as' is missing");
    return in(0);
  }
  Result<ValueType> linear() const {
    if (in(0).form == Form::kRoutes) return wrong("input is {}", type_text(in(0)));
    int64_t cols = 0;
    for (size_t i = 0; i < node_.weights.size(); ++i) {
      const Expr& w = weight(static_cast<int>(i));
      if (w.shape.size() != 2 || w.cols() != in(0).cols)
        return wrong("weight @{} is {}; input has {} columns", node_.weights[i].weight, shape_text(w.shape),
                     in(0).cols);
      if (w.rows() > kMostColumns - cols) return wrong("more than {} columns", kMostColumns);
      cols += w.rows();
    }
    return ValueType{Form::kF32, in(0).rows, cols};
  }
  Result<ValueType> columns() const {
    const int64_t begin = node_.integer("begin"), size = node_.integer("size");
    if (begin < 0 || size <= 0 || begin > in(0).cols - size)
      return wrong("columns {}..{} of a value with {}", begin, begin + size, in(0).cols);
    return ValueType{in(0).form, in(0).rows, size};
  }
  Result<ValueType> rope() const {
    TRY_STATUS(all_tokens());
    TRY_STATUS(heads_divide(in(0).cols));
    const Rope* rope = graph_.find_rope(node_.text("rope"));
    if (!rope) return wrong("rope @{} is not defined", node_.text("rope"));
    const int64_t dim = in(0).cols / node_.integer("heads"), at = node_.integer("at"),
                  width = static_cast<int64_t>(rope->inv_freq.size()) * 2;
    if (at < 0 || at > dim - width)
      return wrong("lanes {}..{} of heads of {} columns; @{} is for {}", at, at + width, dim, rope->name,
                   width);
    return in(0);
  }
  Result<ValueType> attention() const {
    TRY_STATUS(all_tokens());
    const CacheSpec* cache = graph_.find_cache(node_.layer);
    if (!cache) return wrong("layer {} has no cache", node_.layer);
    TRY_STATUS(check_cache(*cache));
    const int64_t heads = node_.integer("heads");
    if (heads <= 0 || heads > kMostHeads || heads % cache->kv_heads != 0)
      return wrong("{} heads over {} kv heads", heads, cache->kv_heads);
    if (in(0).cols != heads * cache->k_dim || in(1).cols != cache->kv_heads * cache->k_dim ||
        in(2).cols != cache->kv_heads * cache->v_dim)
      return wrong("q {}, k {}, v {} do not fit {} heads and the cache of layer {} ({} x {}/{})", in(0).cols,
                   in(1).cols, in(2).cols, heads, node_.layer, cache->kv_heads, cache->k_dim, cache->v_dim);
    return ValueType{Form::kF32, in(0).rows, heads * cache->v_dim};
  }
  Result<ValueType> latent_attention() const {
    TRY_STATUS(all_tokens());
    const CacheSpec* cache = graph_.find_cache(node_.layer);
    if (!cache) return wrong("layer {} has no cache", node_.layer);
    TRY_STATUS(check_cache(*cache));
    const Expr &key = weight(0), &value = weight(1);
    const int64_t heads = node_.integer("heads"), latent = in(1).cols, rotated = in(2).cols;
    if (heads <= 0 || heads > kMostHeads) return wrong("{} heads", heads);
    if (!cache->latent || cache->kv_heads != 1 || cache->k_dim != latent + rotated || cache->v_dim != latent)
      return wrong("latent of {} and {} rotated columns do not fit the cache of layer {}", latent, rotated,
                   node_.layer);
    if (key.shape.size() != 3 || value.shape.size() != 3 || key.stack() != heads || value.stack() != heads ||
        key.rows() != latent || value.cols() != latent || in(0).cols != heads * (key.cols() + rotated))
      return wrong("key {}, value {} do not fit {} heads, q of {} columns and a latent of {}",
                   shape_text(key.shape), shape_text(value.shape), heads, in(0).cols, latent);
    const auto inner = parse_form(node_.text("inner"));
    if (!inner || *inner == Form::kRoutes) return wrong("attribute 'inner' must be a form");
    return ValueType{Form::kF32, in(0).rows, heads * value.rows()};
  }
  Result<ValueType> select_rows() const {
    TRY_STATUS(all_tokens());
    return ValueType{in(0).form, Rows::kSelected, in(0).cols};
  }
  Result<ValueType> route() const {
    const int64_t experts = in(0).cols, k = node_.integer("k"), groups = node_.integer("groups"),
                  kept = node_.integer("kept");
    if (groups <= 0 || experts % groups != 0 || kept <= 0 || kept > groups)
      return wrong("{} of {} groups of {} experts are kept", kept, groups, experts);
    if (k <= 0 || k > experts / groups * kept)
      return wrong("k is {} of {} experts", k, experts / groups * kept);
    if (!node_.weights.empty() && (weight(0).shape.size() != 1 || weight(0).cols() != experts))
      return wrong("bias is {}; there are {} experts", shape_text(weight(0).shape), experts);
    const std::string &score = node_.text("score"), &rank = node_.text("rank");
    if (score != "softmax" && score != "sigmoid" && score != "sqrtsoftplus")
      return wrong("score is '{}'; expected softmax, sigmoid or sqrtsoftplus", score);
    if (rank != "max" && rank != "top2") return wrong("rank is '{}'; expected max or top2", rank);
    if (rank == "top2" && groups > 1 && experts / groups < 2)
      return wrong("groups of one expert rank by top2");
    return ValueType{Form::kRoutes, in(0).rows, k};
  }
  Result<ValueType> experts() const {
    if (in(0).form == Form::kRoutes || in(1).form != Form::kRoutes || in(0).rows != in(1).rows)
      return wrong("inputs are {} and {}; expected rows and their routes", type_text(in(0)),
                   type_text(in(1)));
    const Expr &gate = weight(0), &up = weight(1), &down = weight(2);
    if (gate.shape.size() != 3 || gate.shape != up.shape || down.shape.size() != 3 ||
        gate.cols() != in(0).cols || down.stack() != gate.stack() || down.cols() != gate.rows())
      return wrong("gate {}, up {}, down {} do not fit input of {} columns", shape_text(gate.shape),
                   shape_text(up.shape), shape_text(down.shape), in(0).cols);
    // Routes name experts by the columns of the scores that they come from.
    const Node& route = graph_.nodes[node_.inputs[1]];
    if (const int64_t scored = graph_.nodes[route.inputs[0]].type.cols; scored != gate.stack())
      return wrong("the routes are to {} experts; the weights hold {}", scored, gate.stack());
    const auto inner = parse_form(node_.text("inner"));
    if (!inner || *inner == Form::kRoutes) return wrong("attribute 'inner' must be a form");
    return ValueType{Form::kF32, in(0).rows, down.rows()};
  }

  const Graph& graph_;
  const Node& node_;
  const WeightIndex* index_;
  const OpInfo& info_;
};

}  // namespace

Result<ValueType> infer_type(const Graph& graph, const Node& node, const WeightIndex* index) {
  return Inference(graph, node, index).run();
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
