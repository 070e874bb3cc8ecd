#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <utility>

#include "graph/lexer.h"
#include "graph/text.h"

namespace fettle {

namespace {

constexpr int kMaxExprDepth = 64;

class ExprParser {
 public:
  explicit ExprParser(Lexer* lexer) : lexer_(*lexer) {}

  Result<ExprPtr> parse(int depth = 0) {
    if (depth > kMaxExprDepth) return lexer_.wrong("expression nested deeper than {}", kMaxExprDepth);
    TRY(const std::string head, lexer_.word());
    TRY_STATUS(lexer_.expect("("));
    TRY(ExprPtr expr, arguments(head, depth));
    TRY_STATUS(lexer_.expect(")"));
    return expr;
  }

 private:
  Result<ExprPtr> arguments(const std::string& head, int depth) {
    if (head == "source" || head == "stack") return stored(head == "stack");
    TRY(ExprPtr arg, parse(depth + 1));
    if (head == "concat") return concat(std::move(arg), depth);
    if (head == "append") return append(std::move(arg), depth);
    if (head == "transpose") return transpose_expr(std::move(arg));
    TRY_STATUS(lexer_.expect(","));
    if (head == "permute_rows") return permute(std::move(arg));
    if (head == "slice_rows") return slice(std::move(arg));
    if (head == "split_heads") return split_heads(std::move(arg));
    if (head == "encode") return encode(std::move(arg));
    if (head == "scale_rows" || head == "scale_cols") {
      TRY(std::string vector, lexer_.quoted());
      return head == "scale_rows" ? scale_rows_expr(std::move(arg), vector)
                                  : scale_cols_expr(std::move(arg), vector);
    }
    return lexer_.wrong("unknown weight expression '{}'", head);
  }

  Result<Scheme> scheme() {
    TRY(const std::string name, lexer_.word());
    const auto scheme = parse_scheme(name);
    if (!scheme) return lexer_.wrong("unknown scheme '{}'", name);
    return *scheme;
  }

  Result<ExprPtr> stored(bool stack) {
    TRY(std::string name, lexer_.quoted());
    TRY_STATUS(lexer_.expect(","));
    TRY(const Scheme scheme_, scheme());
    TRY_STATUS(lexer_.expect(","));
    TRY_STATUS(lexer_.expect("["));
    Shape shape;
    do {
      TRY(const int64_t dim, lexer_.integer());
      if (dim <= 0 || dim > (int64_t{1} << 40)) return lexer_.wrong("dimension {} of '{}'", dim, name);
      shape.push_back(dim);
    } while (lexer_.accept(","));
    TRY_STATUS(lexer_.expect("]"));
    if (shape.size() > 3 || (stack && shape.size() != 3) || !element_count(shape) ||
        !row_fits(scheme_, shape.back()))
      return lexer_.wrong("'{}' cannot have the shape {} in {}", name, shape_text(shape),
                          scheme_name(scheme_));
    return stack ? stack_expr(name, scheme_, shape) : source_expr(name, scheme_, shape);
  }

  Result<ExprPtr> permute(ExprPtr arg) {
    TRY(std::string kind, lexer_.word());
    TRY_STATUS(lexer_.expect(","));
    TRY(const int64_t heads, lexer_.integer());
    if (kind != "rope_halves" || heads <= 0 || heads > arg->rows() || arg->rows() % (2 * heads) != 0)
      return lexer_.wrong("cannot permute {} rows as {} of {} heads", arg->rows(), kind, heads);
    return permute_rows_expr(std::move(arg), kind, heads);
  }

  Result<ExprPtr> slice(ExprPtr arg) {
    TRY(const int64_t begin, lexer_.integer());
    TRY_STATUS(lexer_.expect(","));
    TRY(const int64_t count, lexer_.integer());
    if (arg->shape.size() < 2 || begin < 0 || count <= 0 || begin > arg->rows() - count)
      return lexer_.wrong("rows {}..+{} of a matrix {}", begin, count, shape_text(arg->shape));
    return slice_rows_expr(std::move(arg), begin, count);
  }

  Result<ExprPtr> split_heads(ExprPtr arg) {
    TRY(const int64_t heads, lexer_.integer());
    TRY_STATUS(lexer_.expect(","));
    TRY(const int64_t begin, lexer_.integer());
    TRY_STATUS(lexer_.expect(","));
    TRY(const int64_t count, lexer_.integer());
    if (arg->shape.size() != 2 || heads <= 0 || arg->rows() % heads != 0 || begin < 0 || count <= 0 ||
        begin > arg->rows() / heads - count)
      return lexer_.wrong("rows {}..+{} of each of {} heads of a matrix {}", begin, count, heads,
                          shape_text(arg->shape));
    return split_heads_expr(std::move(arg), heads, begin, count);
  }

  Result<ExprPtr> encode(ExprPtr arg) {
    TRY(const Scheme to, scheme());
    TRY_STATUS(lexer_.expect(","));
    TRY(std::string method, lexer_.word());
    if (!row_fits(to, arg->cols()))
      return lexer_.wrong("rows of {} cannot be coded as {}", arg->cols(), scheme_name(to));
    return encode_expr(std::move(arg), to, method);
  }

  Result<std::vector<ExprPtr>> list(ExprPtr first, int depth) {
    std::vector<ExprPtr> args = {std::move(first)};
    while (lexer_.accept(",")) {
      TRY(ExprPtr next, parse(depth + 1));
      args.push_back(std::move(next));
    }
    return args;
  }

  Result<ExprPtr> append(ExprPtr first, int depth) {
    TRY(std::vector<ExprPtr> args, list(std::move(first), depth));
    const Expr& stack = *args[0];
    int64_t members = 0;
    for (const ExprPtr& a : args) {
      if (stack.shape.size() != 3 || a->shape.size() < 2 || a->rows() != stack.rows() ||
          a->cols() != stack.cols() || a->scheme != stack.scheme)
        return lexer_.wrong("append of {} {} to {} {}", scheme_name(a->scheme), shape_text(a->shape),
                            scheme_name(stack.scheme), shape_text(stack.shape));
      if (__builtin_add_overflow(members, a->stack(), &members) ||
          !element_count({members, stack.rows(), stack.cols()}))
        return lexer_.wrong("append of more matrices than a stack can have");
    }
    return append_expr(std::move(args));
  }

  Result<ExprPtr> concat(ExprPtr first, int depth) {
    TRY(std::vector<ExprPtr> args, list(std::move(first), depth));
    for (const ExprPtr& a : args)
      if (a->shape.size() != 2 || a->cols() != args[0]->cols() || a->scheme != args[0]->scheme)
        return lexer_.wrong("concat of {} {} and {} {}", scheme_name(args[0]->scheme),
                            shape_text(args[0]->shape), scheme_name(a->scheme), shape_text(a->shape));
    int64_t rows = 0;
    for (const ExprPtr& a : args)
      if (__builtin_add_overflow(rows, a->rows(), &rows) || !element_count({rows, a->cols()}))
        return lexer_.wrong("concat of more rows than a matrix can have");
    return concat_expr(std::move(args));
  }

  Lexer& lexer_;
};

class GraphParser {
 public:
  explicit GraphParser(std::string_view what) : what_(what) {}

  Result<Graph> parse(std::string_view text) {
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      ++line_;
      TRY_STATUS(line(text.substr(0, end)));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    const Status verified = verify_graph(graph_);
    if (!verified.ok()) return Error(verified.error()).context(what_);
    return std::move(graph_);
  }

 private:
  Status line(std::string_view text) {
    Lexer lexer(text, fmt::format("{}: line {}", what_, line_));
    if (lexer.at_end() || lexer.accept("#")) return {};
    TRY_STATUS(statement(lexer));
    if (!lexer.at_end()) return lexer.wrong("something follows the statement");
    return {};
  }

  Status statement(Lexer& lexer) {
    if (lexer.accept("%")) return node(lexer);
    TRY(const std::string kind, lexer.word());
    if (kind == "graph") return header(lexer);
    if (kind == "rope") return rope(lexer);
    if (kind == "cache") return cache(lexer);
    if (kind == "weight") return weight(lexer);
    return lexer.wrong("unknown statement '{}'", kind);
  }

  static Result<int64_t> field(Lexer& lexer, std::string_view name) {
    TRY_STATUS(lexer.expect(name));
    TRY_STATUS(lexer.expect("="));
    return lexer.integer();
  }

  Status header(Lexer& lexer) {
    if (graph_.vocab != 0) return lexer.wrong("a second header");
    TRY(graph_.architecture, lexer.quoted());
    TRY(graph_.vocab, field(lexer, "vocab"));
    TRY(graph_.hidden, field(lexer, "hidden"));
    TRY(graph_.layers, field(lexer, "layers"));
    TRY(graph_.context, field(lexer, "context"));
    return {};
  }

  Status rope(Lexer& lexer) {
    if (graph_.ropes.size() == kMostRopes) return lexer.wrong("more than {} ropes", kMostRopes);
    Rope rope;
    TRY_STATUS(lexer.expect("@"));
    TRY(rope.name, lexer.word());
    TRY(const std::string kind, lexer.word());
    if (kind != "halves" && kind != "pairs")
      return lexer.wrong("rope kind '{}'; expected halves or pairs", kind);
    rope.pairs = kind == "pairs";
    TRY_STATUS(lexer.expect("scale="));
    TRY(rope.scale, lexer.real());
    TRY_STATUS(lexer.expect("inv_freq=["));
    do {
      TRY(const double f, lexer.real());
      if (!(std::fabs(f) <= std::numeric_limits<float>::max()))
        return lexer.wrong("inv_freq holds {}; expected numbers that fp32 can hold", f);
      rope.inv_freq.push_back(static_cast<float>(f));
    } while (lexer.accept(","));
    TRY_STATUS(lexer.expect("]"));
    graph_.ropes.push_back(std::move(rope));
    return {};
  }

  Status cache(Lexer& lexer) {
    if (graph_.caches.size() == kMostCaches) return lexer.wrong("more than {} caches", kMostCaches);
    CacheSpec c;
    TRY(c.layer, lexer.integer());
    TRY(std::string kind, lexer.word());
    if (!parse_cache_kind(kind)) {
      c.role = std::exchange(kind, {});
      TRY(kind, lexer.word());
    }
    const auto parsed = parse_cache_kind(kind);
    if (!parsed)
      return lexer.wrong("cache is '{}'; expected full, latent or rows", c.role == "kv" ? kind : c.role);
    c.kind = *parsed;
    TRY(c.kv_heads, field(lexer, "kv_heads"));
    TRY(c.k_dim, field(lexer, "k_dim"));
    TRY(c.v_dim, field(lexer, "v_dim"));
    TRY_STATUS(lexer.expect("type="));
    TRY(c.type, lexer.word());
    if (lexer.accept("window=")) {
      TRY(c.window, lexer.integer());
    }
    if (lexer.accept("rate=")) {
      TRY(c.rate, lexer.integer());
    }
    graph_.caches.push_back(std::move(c));
    return {};
  }

  Status weight(Lexer& lexer) {
    TRY_STATUS(lexer.expect("@"));
    TRY(std::string name, lexer.word());
    TRY_STATUS(lexer.expect("="));
    TRY(ExprPtr expr, ExprParser(&lexer).parse());
    if (!names_.insert(name).second) return lexer.wrong("weight @{} is defined twice", name);
    index_.emplace(*names_.find(name), expr.get());
    graph_.weights.push_back({std::move(name), std::move(expr)});
    return {};
  }

  Status node(Lexer& lexer) {
    if (graph_.nodes.size() == kMostNodes) return lexer.wrong("more than {} operations", kMostNodes);
    TRY(const int64_t id, lexer.integer());
    if (id != static_cast<int64_t>(graph_.nodes.size()))
      return lexer.wrong("%{}; expected %{}", id, graph_.nodes.size());
    TRY_STATUS(lexer.expect(":"));
    TRY(const ValueType written, type(lexer));
    TRY_STATUS(lexer.expect("="));
    TRY(const std::string name, lexer.word());
    const OpInfo* info = find_op(name);
    if (!info) return lexer.wrong("unknown operation '{}'", name);
    Node node{info->op, {}, {}, {}, -1, {}};
    TRY_STATUS(inputs(lexer, node));
    TRY_STATUS(weights(lexer, node));
    TRY_STATUS(attributes(lexer, *info, node));
    auto inferred = infer_type(graph_, node, &index_);
    if (!inferred.ok()) return lexer.wrong("{}", inferred.error().message());
    if (*inferred != written)
      return lexer.wrong("type is written as {} but is {}", type_text(written), type_text(*inferred));
    node.type = written;
    graph_.nodes.push_back(std::move(node));
    return {};
  }

  static Result<ValueType> type(Lexer& lexer) {
    TRY(const std::string form, lexer.word());
    const auto parsed = parse_form(form);
    if (!parsed) return lexer.wrong("unknown form '{}'", form);
    TRY_STATUS(lexer.expect("["));
    TRY(const std::string rows, lexer.word());
    if (rows != "T" && rows != "R") return lexer.wrong("rows are '{}'; expected T or R", rows);
    TRY_STATUS(lexer.expect(","));
    TRY(const int64_t cols, lexer.integer());
    TRY_STATUS(lexer.expect("]"));
    return ValueType{*parsed, rows == "T" ? Rows::kTokens : Rows::kSelected, cols};
  }

  static Status inputs(Lexer& lexer, Node& node) {
    TRY_STATUS(lexer.expect("("));
    if (lexer.accept(")")) return {};
    do {
      TRY_STATUS(lexer.expect("%"));
      TRY(const int64_t id, lexer.integer());
      if (id < 0 || id > INT32_MAX) return lexer.wrong("%{}", id);
      node.inputs.push_back(static_cast<ValueId>(id));
    } while (lexer.accept(","));
    return lexer.expect(")");
  }

  static Status weights(Lexer& lexer, Node& node) {
    if (!lexer.accept("w=[")) return {};
    do {
      WeightRef ref;
      TRY_STATUS(lexer.expect("@"));
      TRY(ref.weight, lexer.word());
      if (lexer.accept("+")) {
        TRY_STATUS(lexer.expect("@"));
        TRY(ref.bias, lexer.word());
      }
      node.weights.push_back(std::move(ref));
    } while (lexer.accept(","));
    return lexer.expect("]");
  }

  static Status attributes(Lexer& lexer, const OpInfo& info, Node& node) {
    const auto is = [](const auto& names, const std::string& key) {
      return std::find(names.begin(), names.end(), key) != names.end();
    };
    while (!lexer.at_end()) {
      TRY(const std::string key, lexer.word());
      TRY_STATUS(lexer.expect("="));
      if (node.has(key) || (key == "layer" && node.layer >= 0))
        return lexer.wrong("attribute '{}' occurs twice", key);
      if (key == "layer") {
        TRY(node.layer, lexer.integer());
        if (node.layer < 0) return lexer.wrong("layer={}; expected at least 0", node.layer);
      } else if (is(info.integers, key) || is(info.optional_integers, key)) {
        TRY(node.attrs[key], lexer.integer());
      } else if (is(info.numbers, key) || is(info.optional_numbers, key)) {
        TRY(node.attrs[key], lexer.real());
      } else {
        TRY(node.attrs[key], lexer.word());
      }
    }
    return {};
  }

  std::string what_;
  int line_ = 0;
  Graph graph_;
  std::unordered_set<std::string> names_;  // of the weights; the index refers to them
  WeightIndex index_;
};

}  // namespace

Result<ExprPtr> parse_expr(std::string_view text, std::string_view what) {
  Lexer lexer(text, std::string(what));
  TRY(ExprPtr expr, ExprParser(&lexer).parse());
  if (!lexer.at_end()) return lexer.wrong("something follows the expression");
  return expr;
}

Result<Graph> parse_graph(std::string_view text, std::string_view what) {
  return GraphParser(what).parse(text);
}

}  // namespace fettle
