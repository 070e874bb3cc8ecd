#include "graph/expr.h"

#include "base/check.h"

namespace fettle {

namespace {

ExprPtr make(Expr expr) { return std::make_shared<const Expr>(std::move(expr)); }

// A value computed from another is fp32 until something encodes it.
ExprPtr computed(ExprKind kind, ExprPtr arg, std::string vector) {
  Shape shape = arg->shape;
  return make({.kind = kind,
               .scheme = Scheme::kF32,
               .shape = std::move(shape),
               .args = {std::move(arg)},
               .name = std::move(vector)});
}

}  // namespace

ExprPtr source_expr(std::string name, Scheme scheme, Shape shape) {
  return make({.kind = ExprKind::kSource,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {},
               .name = std::move(name)});
}

ExprPtr stack_expr(std::string pattern, Scheme scheme, Shape shape) {
  CHECK(shape.size() == 3, "{}", shape_text(shape));
  return make({.kind = ExprKind::kStack,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {},
               .name = std::move(pattern)});
}

ExprPtr permute_rows_expr(ExprPtr arg, std::string kind, int64_t heads) {
  CHECK(kind == "rope_halves" && heads > 0 && arg->rows() % (2 * heads) == 0, "{} {} rows {}", kind, heads,
        arg->rows());
  const Scheme scheme = arg->scheme;
  Shape shape = arg->shape;
  return make({.kind = ExprKind::kPermuteRows,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {std::move(arg)},
               .name = std::move(kind),
               .heads = heads});
}

ExprPtr slice_rows_expr(ExprPtr arg, int64_t begin, int64_t count) {
  CHECK(begin >= 0 && count > 0 && begin + count <= arg->rows() && arg->shape.size() >= 2, "{}+{}", begin,
        count);
  const Scheme scheme = arg->scheme;
  Shape shape = arg->shape;
  shape[shape.size() - 2] = count;
  return make({.kind = ExprKind::kSliceRows,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {std::move(arg)},
               .name = {},
               .begin = begin});
}

ExprPtr split_heads_expr(ExprPtr arg, int64_t heads, int64_t begin, int64_t count) {
  CHECK(arg->shape.size() == 2 && heads > 0 && arg->rows() % heads == 0 && begin >= 0 && count > 0 &&
            begin + count <= arg->rows() / heads,
        "{}: {} heads, {}+{}", shape_text(arg->shape), heads, begin, count);
  const Scheme scheme = arg->scheme;
  Shape shape = {heads, count, arg->cols()};
  return make({.kind = ExprKind::kSplitHeads,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {std::move(arg)},
               .name = {},
               .begin = begin});
}

ExprPtr transpose_expr(ExprPtr arg) {
  const Scheme scheme = is_float_scheme(arg->scheme) ? arg->scheme : Scheme::kF32;
  Shape shape = arg->shape;
  if (shape.size() == 1) shape.insert(shape.begin(), 1);
  std::swap(shape[shape.size() - 2], shape[shape.size() - 1]);
  return make({.kind = ExprKind::kTranspose,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {std::move(arg)},
               .name = {}});
}

ExprPtr concat_expr(std::vector<ExprPtr> args) {
  CHECK(!args.empty());
  int64_t rows = 0;
  for (const ExprPtr& a : args) {
    CHECK(a->shape.size() == 2 && a->cols() == args[0]->cols() && a->scheme == args[0]->scheme);
    rows += a->rows();
  }
  const Scheme scheme = args[0]->scheme;
  Shape shape = {rows, args[0]->cols()};
  return make({.kind = ExprKind::kConcat,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = std::move(args),
               .name = {}});
}

ExprPtr append_expr(std::vector<ExprPtr> args) {
  CHECK(!args.empty() && args[0]->shape.size() == 3);
  Shape shape = args[0]->shape;
  shape[0] = 0;
  for (const ExprPtr& a : args) {
    CHECK(a->shape.size() >= 2 && a->rows() == args[0]->rows() && a->cols() == args[0]->cols() &&
          a->scheme == args[0]->scheme);
    shape[0] += a->stack();
  }
  const Scheme scheme = args[0]->scheme;
  return make({.kind = ExprKind::kAppend,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = std::move(args),
               .name = {}});
}

ExprPtr scale_rows_expr(ExprPtr arg, std::string vector) {
  return computed(ExprKind::kScaleRows, std::move(arg), std::move(vector));
}
ExprPtr scale_cols_expr(ExprPtr arg, std::string vector) {
  return computed(ExprKind::kScaleCols, std::move(arg), std::move(vector));
}

ExprPtr encode_expr(ExprPtr arg, Scheme scheme, std::string method) {
  CHECK(row_fits(scheme, arg->cols()), "{} cols {}", scheme_name(scheme), arg->cols());
  Shape shape = arg->shape;
  return make({.kind = ExprKind::kEncode,
               .scheme = scheme,
               .shape = std::move(shape),
               .args = {std::move(arg)},
               .name = std::move(method)});
}

bool is_carried(const Expr& expr) {
  if (expr.kind == ExprKind::kScaleRows || expr.kind == ExprKind::kScaleCols ||
      expr.kind == ExprKind::kEncode)
    return false;
  for (const ExprPtr& a : expr.args)
    if (!is_carried(*a) || (expr.kind == ExprKind::kTranspose && a->scheme != expr.scheme)) return false;
  return true;
}

std::string expr_text(const Expr& e) {
  const auto arg = [&] { return expr_text(*e.args[0]); };
  switch (e.kind) {
    case ExprKind::kSource:
      return fmt::format("source(\"{}\", {}, {})", e.name, scheme_name(e.scheme), shape_text(e.shape));
    case ExprKind::kStack:
      return fmt::format("stack(\"{}\", {}, {})", e.name, scheme_name(e.scheme), shape_text(e.shape));
    case ExprKind::kPermuteRows:
      return fmt::format("permute_rows({}, {}, {})", arg(), e.name, e.heads);
    case ExprKind::kSliceRows:
      return fmt::format("slice_rows({}, {}, {})", arg(), e.begin, e.rows());
    case ExprKind::kSplitHeads:
      return fmt::format("split_heads({}, {}, {}, {})", arg(), e.stack(), e.begin, e.rows());
    case ExprKind::kTranspose:
      return fmt::format("transpose({})", arg());
    case ExprKind::kScaleRows:
      return fmt::format("scale_rows({}, \"{}\")", arg(), e.name);
    case ExprKind::kScaleCols:
      return fmt::format("scale_cols({}, \"{}\")", arg(), e.name);
    case ExprKind::kEncode:
      return fmt::format("encode({}, {}, {})", arg(), scheme_name(e.scheme), e.name);
    case ExprKind::kAppend:
    case ExprKind::kConcat: {
      std::string text;
      for (const ExprPtr& a : e.args) text += (text.empty() ? "" : ", ") + expr_text(*a);
      return (e.kind == ExprKind::kAppend ? "append(" : "concat(") + text + ")";
    }
  }
  return "";
}

int64_t permuted_row(int64_t row, int64_t rows, int64_t heads) {
  const int64_t d = rows / heads;
  const int64_t head = row / d, within = row % d;
  return head * d + 2 * (within % (d / 2)) + within / (d / 2);
}

}  // namespace fettle
