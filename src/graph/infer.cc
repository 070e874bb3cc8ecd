// The types of values: the one place where shapes are derived and checked.
#include <cmath>

#include "graph/graph.h"
#include "graph/simulate.h"

namespace fettle {

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
    const int inputs = static_cast<int>(node_.inputs.size());
    if (inputs < info_.min_inputs || inputs > info_.max_inputs)
      return wrong("has {} inputs; expected {}", inputs,
                   info_.min_inputs == info_.max_inputs
                       ? fmt::format("{}", info_.min_inputs)
                       : fmt::format("{} to {}", info_.min_inputs, info_.max_inputs));
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
    const auto check = [&](const auto& names, auto tag, bool required = true) -> Status {
      for (const std::string_view name : names) {
        const auto it = node_.attrs.find(std::string(name));
        if (it == node_.attrs.end() && !required) continue;
        if (it == node_.attrs.end() || !std::holds_alternative<decltype(tag)>(it->second))
          return wrong("attribute '{}' is missing or of the wrong kind", name);
        ++known;
      }
      return {};
    };
    TRY_STATUS(check(info_.integers, int64_t{}));
    TRY_STATUS(check(info_.numbers, double{}));
    TRY_STATUS(check(info_.texts, std::string{}));
    TRY_STATUS(check(info_.optional_integers, int64_t{}, false));
    TRY_STATUS(check(info_.optional_numbers, double{}, false));
    for (const auto& [name, value] : node_.attrs)
      if (const auto* number = std::get_if<double>(&value); number && !std::isfinite(*number))
        return wrong("attribute '{}' is {}; expected a finite number", name, *number);
    if (node_.has("as")) {
      const auto* as = std::get_if<std::string>(&node_.attrs.at("as"));
      if (!info_.may_round || !as || !parse_form(*as) || !is_number_form(*parse_form(*as)))
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
      const bool any_form = node_.op == Op::kLinear || node_.op == Op::kExperts;
      const bool chosen = i == 3 && form == Form::kSelection;  // of latent_attention and window_attention
      if (!any_form && !chosen && form != Form::kF32)
        return wrong("input {} is {}; expected f32", i, type_text(in(static_cast<int>(i))));
    }
    switch (node_.op) {
      case Op::kEmbed:
        return embed();
      case Op::kRmsNorm:
        return rms_norm();
      case Op::kLayerNorm:
        return layer_norm();
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
        TRY_STATUS(limit());
        return in(0);
      case Op::kSelectRows:
        return select_rows();
      case Op::kLatentAttention:
        return latent_attention();
      case Op::kRoute:
        return route();
      case Op::kExperts:
        return experts();
      case Op::kRepeat:
        return repeat();
      case Op::kHyperMix:
        return hyper_mix();
      case Op::kHyperRead:
      case Op::kHyperWrite:
        return hyper_apply();
      case Op::kCompress:
        return compress();
      case Op::kIndex:
        return index();
      case Op::kWindowAttention:
        return window_attention();
      case Op::kGroupedLinear:
        return grouped_linear();
      case Op::kRouteByToken:
        return route_by_token();
      case Op::kSimulate:
        return simulate();
      case Op::kState:
        return state();
      case Op::kJoin:
        return join();
    }
    return wrong("unknown operation");
  }

  // Positions belong to the tokens of the batch: values of the selected rows have none.
  Status all_tokens() const {
    for (int i = 0; i < static_cast<int>(node_.inputs.size()); ++i)
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
    if (!node_.weights.empty() && (weight(0).shape.size() != 1 || weight(0).cols() != width))
      return wrong("gain is {}; a part has {} columns", shape_text(weight(0).shape), width);
    if (!(node_.number("eps") >= 0)) return wrong("eps is {}; expected >= 0", node_.number("eps"));
    return in(0);
  }
  Result<ValueType> layer_norm() const {
    if (weight(0).shape != Shape{in(0).cols} || weight(1).shape != weight(0).shape)
      return wrong("gain {} and bias {}; the input has {} columns", shape_text(weight(0).shape),
                   shape_text(weight(1).shape), in(0).cols);
    if (!(node_.number("eps") >= 0)) return wrong("eps is {}; expected >= 0", node_.number("eps"));
    return in(0);
  }
  Result<ValueType> quantise() const {
    if (!node_.has("as")) return wrong("attribute 'as' is missing");
    return in(0);
  }
  Result<ValueType> linear() const {
    if (!is_number_form(in(0).form)) return wrong("input is {}", type_text(in(0)));
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
    TRY_STATUS(rope_fits(in(0).cols / node_.integer("heads"), node_.integer("at")));
    return in(0);
  }
  Result<ValueType> attention() const {
    TRY_STATUS(all_tokens());
    TRY(const CacheSpec* cache, cache_of("kv"));
    const int64_t heads = node_.integer("heads");
    if (cache->window != 0 || cache->rate != 1 || cache->kind != CacheKind::kFull)
      return wrong("the cache of layer {} is not one of all keys and values", node_.layer);
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
    TRY(const CacheSpec* cache, cache_of("kv"));
    const Expr &key = weight(0), &value = weight(1);
    const int64_t heads = node_.integer("heads"), latent = in(1).cols, rotated = in(2).cols;
    if (heads <= 0 || heads > kMostHeads) return wrong("{} heads", heads);
    if (cache->kind != CacheKind::kLatent || cache->window != 0 || cache->rate != 1 || cache->kv_heads != 1 ||
        cache->k_dim != latent + rotated || cache->v_dim != latent)
      return wrong("latent of {} and {} rotated columns do not fit the cache of layer {}", latent, rotated,
                   node_.layer);
    if (key.shape.size() != 3 || value.shape.size() != 3 || key.stack() != heads || value.stack() != heads ||
        key.rows() != latent || value.cols() != latent || in(0).cols != heads * (key.cols() + rotated))
      return wrong("key {}, value {} do not fit {} heads, q of {} columns and a latent of {}",
                   shape_text(key.shape), shape_text(value.shape), heads, in(0).cols, latent);
    if (node_.weights.size() > 2 && weight(2).shape != Shape{heads, key.cols(), latent})
      return wrong("key rows {} are not the transposed key {}", shape_text(weight(2).shape),
                   shape_text(key.shape));
    TRY_STATUS(inner_is_form());
    TRY_STATUS(chosen_of(1));
    return ValueType{Form::kF32, in(0).rows, heads * value.rows()};
  }
  Result<ValueType> state() const {
    const int64_t cols = node_.integer("cols");
    if (cols <= 0) return wrong("{} columns; expected at least 1", cols);
    return ValueType{Form::kF32, Rows::kTokens, cols};
  }
  Result<ValueType> join() const {
    if (in(0).rows != in(1).rows)
      return wrong("inputs are {} and {}; expected the same rows", type_text(in(0)), type_text(in(1)));
    return ValueType{Form::kF32, in(0).rows, in(0).cols + in(1).cols};
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
    const std::string& rank = node_.text("rank");
    TRY_STATUS(known_score());
    if (rank != "max" && rank != "top2") return wrong("rank is '{}'; expected max or top2", rank);
    if (rank == "top2" && groups > 1 && experts / groups < 2)
      return wrong("groups of one expert rank by top2");
    TRY_STATUS(always());
    return ValueType{Form::kRoutes, in(0).rows, k + node_.integer_or("always", 0)};
  }
  Result<ValueType> experts() const {
    if (!is_number_form(in(0).form) || in(1).form != Form::kRoutes || in(0).rows != in(1).rows)
      return wrong("inputs are {} and {}; expected rows and their routes", type_text(in(0)),
                   type_text(in(1)));
    const Expr &gate = weight(0), &up = weight(1), &down = weight(2);
    if (gate.shape.size() != 3 || gate.shape != up.shape || down.shape.size() != 3 ||
        gate.cols() != in(0).cols || down.stack() != gate.stack() || down.cols() != gate.rows())
      return wrong("gate {}, up {}, down {} do not fit input of {} columns", shape_text(gate.shape),
                   shape_text(up.shape), shape_text(down.shape), in(0).cols);
    // Routes name experts by the columns of the scores that they come from, and those behind.
    const Node& route = graph_.nodes[node_.inputs[1]];
    const int64_t named = graph_.nodes[route.inputs[0]].type.cols + route.integer_or("always", 0);
    if (named != gate.stack())
      return wrong("the routes are to {} experts; the weights hold {}", named, gate.stack());
    TRY_STATUS(inner_is_form());
    TRY_STATUS(limit());
    return ValueType{Form::kF32, in(0).rows, down.rows()};
  }
  Result<ValueType> repeat() const {
    const int64_t count = node_.integer("count");
    if (count <= 0 || count > kMostColumns / in(0).cols)
      return wrong("{} times {} columns", count, in(0).cols);
    return ValueType{Form::kF32, in(0).rows, count * in(0).cols};
  }

  // n streams: n columns say how they are read, as many how they are written, n * n how they mix.
  Result<int64_t> streams() const {
    const int64_t n = node_.integer("streams");
    if (n <= 0 || n > kMostStreams || in(0).cols % n != 0)
      return wrong("{} columns in {} streams; expected at most {} that divide them", in(0).cols, n,
                   kMostStreams);
    return n;
  }
  Result<ValueType> hyper_mix() const {
    TRY(const int64_t n, streams());
    const int64_t all = (2 + n) * n, cols = in(1).cols;
    if (in(0).rows != in(1).rows || (cols != all && cols != n))
      return wrong("raw is {}; {} streams need {} columns, or {} only to read", type_text(in(1)), n, all, n);
    if (weight(0).shape != Shape{cols} || weight(1).shape != Shape{cols == n ? 1 : 3})
      return wrong("base {} and scale {} do not fit {} columns", shape_text(weight(0).shape),
                   shape_text(weight(1).shape), cols);
    const int64_t iterations = node_.integer("iters");
    if (iterations < 1 || iterations > 1000) return wrong("iters is {}; expected 1 to 1000", iterations);
    if (!(node_.number("eps") >= 0) || !(node_.number("norm_eps") >= 0))
      return wrong("eps {} and norm_eps {}; expected at least 0", node_.number("eps"),
                   node_.number("norm_eps"));
    return in(1);
  }
  Result<ValueType> hyper_apply() const {
    TRY(const int64_t n, streams());
    const bool writes = node_.op == Op::kHyperWrite;
    const ValueType& mix = in(writes ? 2 : 1);
    const ValueType one{Form::kF32, in(0).rows, in(0).cols / n};
    if (mix.rows != in(0).rows || (mix.cols != (2 + n) * n && (writes || mix.cols != n)))
      return wrong("mix is {}; {} streams need {} columns", type_text(mix), n, (2 + n) * n);
    if (writes && in(1) != one) return wrong("adds {} to streams of {}", type_text(in(1)), type_text(one));
    return writes ? in(0) : one;
  }

  Result<ValueType> compress() const {
    TRY_STATUS(all_tokens());
    TRY(const CacheSpec* rows, cache_of(node_.text("rows")));
    const Expr &shift = weight(0), &gain = weight(1);
    const int64_t rate = node_.integer("rate"), cols = in(0).cols, dim = gain.cols(),
                  at = node_.integer("at");
    if (rate < 1 || rate > kMostRate || gain.shape.size() != 1 || (cols != dim && cols != 2 * dim) ||
        in(1).cols != cols || shift.shape != Shape{rate, cols})
      return wrong("{} and {} with shift {} and gain {} at rate {}", type_text(in(0)), type_text(in(1)),
                   shape_text(shift.shape), shape_text(gain.shape), rate);
    const int64_t needed = cols == dim ? rate : 2 * rate;  // overlapping entries reach back twice as far
    if (rows->kind != CacheKind::kRows || rows->k_dim != 2 * cols ||
        (rows->window != 0 && rows->window < needed))
      return wrong("the cache '{}' of layer {} does not keep {} rows of {}", rows->role, node_.layer, needed,
                   2 * cols);
    TRY_STATUS(rope_fits(dim, at));
    return ValueType{Form::kF32, Rows::kTokens, dim};
  }

  Result<ValueType> index() const {
    TRY_STATUS(all_tokens());
    TRY(const CacheSpec* cache, cache_of("index"));
    const int64_t heads = node_.integer("heads"), dim = in(1).cols, top = node_.integer("top");
    if (heads <= 0 || heads > kMostHeads || in(0).cols != heads * dim || in(2).cols != heads)
      return wrong("q {}, k {}, w {} do not fit {} heads", type_text(in(0)), type_text(in(1)),
                   type_text(in(2)), heads);
    TRY_STATUS(keeps_entries(*cache, dim, node_.integer("rate")));
    if (top < 1 || top > kMostColumns) return wrong("top is {}", top);
    return ValueType{Form::kSelection, Rows::kTokens, top};
  }

  Result<ValueType> window_attention() const {
    TRY_STATUS(all_tokens());
    TRY(const CacheSpec* cache, cache_of("kv"));
    const int64_t heads = node_.integer("heads"), dim = in(1).cols, window = node_.integer("window"),
                  rate = node_.integer_or("rate", 0);
    if (heads <= 0 || heads > kMostHeads || in(0).cols != heads * dim)
      return wrong("q of {} columns does not fit {} heads and kv of {}", in(0).cols, heads, dim);
    if (window < 1 || (cache->window != 0 && cache->window < window))
      return wrong("window is {}; the cache of layer {} keeps {}", window, node_.layer, cache->window);
    TRY_STATUS(keeps_entries(*cache, dim, 1));
    if (!node_.weights.empty() && weight(0).shape != Shape{heads})
      return wrong("sink is {}; there are {} heads", shape_text(weight(0).shape), heads);
    if ((rate > 0) != (node_.inputs.size() > 2)) return wrong("entries and their rate go together");
    if (rate > 0) {
      TRY(const CacheSpec* entries, cache_of("entries"));
      TRY_STATUS(keeps_entries(*entries, dim, rate));
      if (in(2).cols != dim) return wrong("entries are {}; kv has {} columns", type_text(in(2)), dim);
      TRY_STATUS(chosen_of(rate));
    }
    return ValueType{Form::kF32, Rows::kTokens, heads * dim};
  }

  Result<ValueType> grouped_linear() const {
    const Expr& w = weight(0);
    if (w.shape.size() != 3 || w.stack() > kMostColumns / w.cols() || w.stack() * w.cols() != in(0).cols ||
        w.rows() > kMostColumns / w.stack())
      return wrong("weight {} does not fit an input of {} columns", shape_text(w.shape), in(0).cols);
    TRY_STATUS(inner_is_form());
    return ValueType{Form::kF32, in(0).rows, w.stack() * w.rows()};
  }

  // What the table holds is checked where its numbers are known.
  Result<ValueType> route_by_token() const {
    TRY_STATUS(all_tokens());
    TRY_STATUS(known_score());
    const Expr& table = weight(0);
    if (table.shape.size() != 2 || table.rows() != graph_.vocab || table.cols() > in(0).cols)
      return wrong("table is {}; vocab is {}, and there are {} experts", shape_text(table.shape),
                   graph_.vocab, in(0).cols);
    TRY_STATUS(always());
    return ValueType{Form::kRoutes, Rows::kTokens, table.cols() + node_.integer_or("always", 0)};
  }

  Result<ValueType> simulate() const {
    TRY_STATUS(heads_divide(in(0).cols));
    const int64_t head = in(0).cols / node_.integer("heads"), at = node_.integer("at"),
                  size = node_.integer("size");
    if (at < 0 || size <= 0 || at > head - size) return wrong("lanes {}..{} of {}", at, at + size, head);
    const auto kind = parse_simulation(node_.text("kind"));
    if (!kind) return wrong("kind is '{}'; expected {}", node_.text("kind"), simulation_names());
    if (kind->hadamard && (size & (size - 1)) != 0)
      return wrong("rotates {} lanes; expected a power of two", size);
    return in(0);
  }

  Result<const CacheSpec*> cache_of(std::string_view role) const {
    const CacheSpec* cache = graph_.find_cache(node_.layer, role);
    if (!cache)
      return wrong("layer {} has no cache{}", node_.layer, role == "kv" ? "" : fmt::format(" '{}'", role));
    TRY_STATUS(check_cache(*cache));
    return cache;
  }
  // One head whose value is all of its key.
  Status keeps_entries(const CacheSpec& cache, int64_t dim, int64_t rate) const {
    if (cache.kind == CacheKind::kLatent && cache.kv_heads == 1 && cache.k_dim == dim && cache.v_dim == dim &&
        cache.rate == rate)
      return {};
    return wrong("the cache '{}' of layer {} does not keep {} numbers for every {} tokens", cache.role,
                 node_.layer, dim, rate);
  }
  // The fourth input, if there is one: entries that an index over the same rate chose.
  Status chosen_of(int64_t rate) const {
    if (node_.inputs.size() < 4) return {};
    const Node& index = graph_.nodes[node_.inputs[3]];
    if (index.type.form == Form::kSelection && index.integer("rate") == rate && index.layer == node_.layer)
      return {};
    return wrong("input 3 does not choose among entries of {} tokens of layer {}", rate, node_.layer);
  }
  Status rope_fits(int64_t dim, int64_t at) const {
    const Rope* rope = graph_.find_rope(node_.text("rope"));
    if (!rope) return wrong("rope @{} is not defined", node_.text("rope"));
    const int64_t width = static_cast<int64_t>(rope->inv_freq.size()) * 2;
    if (at < 0 || at > dim - width)
      return wrong("lanes {}..{} of heads of {} columns; @{} is for {}", at, at + width, dim, rope->name,
                   width);
    return {};
  }
  Status known_score() const {
    const std::string& score = node_.text("score");
    if (score == "softmax" || score == "sigmoid" || score == "sqrtsoftplus") return {};
    return wrong("score is '{}'; expected softmax, sigmoid or sqrtsoftplus", score);
  }
  Status inner_is_form() const {
    const auto inner = parse_form(node_.text("inner"));
    if (inner && is_number_form(*inner)) return {};
    return wrong("attribute 'inner' must be a form");
  }
  Status always() const {
    const int64_t always = node_.integer_or("always", 0);
    if (always >= 0 && always <= in(0).cols) return {};
    return wrong("always is {}; expected 0 to {}, the number of scores", always, in(0).cols);
  }
  Status limit() const {
    if (!(node_.number_or("limit", 1) > 0))
      return wrong("limit is {}; expected above 0", node_.number("limit"));
    return {};
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

}  // namespace fettle
