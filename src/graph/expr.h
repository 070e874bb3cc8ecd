// Weights are expressions: passes build them, one streaming evaluator (weights/) turns them into bytes, rows
// at a time. An expression is an immutable tree; it knows its shape and the scheme of its value. Text form,
// parsed back by parse.h:
//   source("blk.0.attn_q.weight", q4_1, [576, 576])            a stored tensor, bit for bit
//   source("blk.0.ffn_gate_exps.weight", q4_K, [64, 768, 2048]) a stored stack of matrices
//   stack("model.layers.0.mlp.experts.{}.up_proj.weight", bf16, [64, 768, 2048])   one stored tensor for each
//   {} = 0..63 permute_rows(x, rope_halves, 32)      per head of rows/32: rows (2i, 2i+1) of interleaved
//   rotary pairs -> (i, i + d/2) slice_rows(x, begin, count)   concat(x, y, ...)   scale_rows(x, "vector")
//   split_heads(x, heads, begin, count)   the rows begin.. of every head of rows/heads, as a stack of heads
//   transpose(x)                          of every matrix of a stack
//   append(x, y, ...)                     a stack and more matrices, or those of more stacks, behind its own
//   scale_cols(x, "vector") encode(x, i8c, search)                rounded to a scheme by a method of quant/
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/scheme.h"

namespace fettle {

enum class ExprKind : uint8_t {
  kSource,
  kStack,
  kPermuteRows,
  kSliceRows,
  kConcat,
  kSplitHeads,
  kTranspose,
  kAppend,
  kScaleRows,
  kScaleCols,
  kEncode,
};

struct Expr;
using ExprPtr = std::shared_ptr<const Expr>;

struct Expr {
  ExprKind kind;
  Scheme scheme;  // of the value
  Shape shape;    // [cols], [rows, cols] or [stack, rows, cols]
  std::vector<ExprPtr> args;
  std::string name;   // kSource, kStack: tensor; kScale*: vector; kPermuteRows: kind; kEncode: method
  int64_t begin = 0;  // kSliceRows, kSplitHeads
  int64_t heads = 0;  // kPermuteRows

  int64_t stack() const { return shape.size() == 3 ? shape[0] : 1; }
  int64_t rows() const { return shape.size() >= 2 ? shape[shape.size() - 2] : 1; }
  int64_t cols() const { return shape.back(); }
  int64_t parameters() const { return stack() * rows() * cols(); }
};

// Constructors; arguments that do not fit are programmer errors (the parser checks first).
ExprPtr source_expr(std::string name, Scheme scheme, Shape shape);
ExprPtr stack_expr(std::string pattern, Scheme scheme, Shape shape);
ExprPtr permute_rows_expr(ExprPtr arg, std::string kind, int64_t heads);
ExprPtr slice_rows_expr(ExprPtr arg, int64_t begin, int64_t count);
ExprPtr split_heads_expr(ExprPtr arg, int64_t heads, int64_t begin, int64_t count);
ExprPtr transpose_expr(ExprPtr arg);  // fp32 unless the argument holds plain numbers
ExprPtr append_expr(std::vector<ExprPtr> args);
ExprPtr concat_expr(std::vector<ExprPtr> args);
ExprPtr scale_rows_expr(ExprPtr arg, std::string vector);
ExprPtr scale_cols_expr(ExprPtr arg, std::string vector);
ExprPtr encode_expr(ExprPtr arg, Scheme scheme, std::string method);

// True when the value is the source's numbers bit for bit: nothing in it computes (permutations, slices and
// stacks move rows, transposing moves plain numbers).
bool is_carried(const Expr& expr);

std::string expr_text(const Expr& expr);

// Row r of the permuted matrix is row permuted_row(...) of the argument.
int64_t permuted_row(int64_t row, int64_t rows, int64_t heads);

}  // namespace fettle
