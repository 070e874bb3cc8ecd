#include "weights/evaluate.h"

#include <atomic>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "base/huge_buffer.h"
#include "checkpoint/tensor_names.h"
#include "kernels/linear/layout.h"
#include "quant/encode.h"

namespace fettle {

Result<MatrixView> Evaluator::stored(const Expr& expr, int64_t member) const {
  std::string name = expr.name;
  int64_t index = member;
  if (expr.kind == ExprKind::kStack) {
    TRY(const TensorRef ref, resolve_tensor(checkpoint_, fmt::format(fmt::runtime(expr.name), member)));
    name = ref.name;
    index = ref.stack_index;
  }
  TRY(MatrixView view, checkpoint_.matrix(name, index));
  if (view.scheme != expr.scheme || view.rows != expr.rows() || view.cols != expr.cols())
    return bad_input("{}: tensor '{}' is {} [{}, {}]; the graph says {} [{}, {}]", checkpoint_.path(), name,
                     scheme_name(view.scheme), view.rows, view.cols, scheme_name(expr.scheme), expr.rows(),
                     expr.cols());
  return view;
}

Status Evaluator::rows(const Expr& expr, int64_t member, int64_t begin, int64_t count, std::byte* out) const {
  const int64_t stride = row_bytes(expr.scheme, expr.cols());
  switch (expr.kind) {
    case ExprKind::kSource:
    case ExprKind::kStack: {
      TRY(const MatrixView view, stored(expr, member));
      view.copy_rows(begin, count, out);
      return {};
    }
    case ExprKind::kPermuteRows:
      for (int64_t r = 0; r < count; ++r)
        TRY_STATUS(rows(*expr.args[0], member, permuted_row(begin + r, expr.rows(), expr.heads), 1,
                        out + r * stride));
      return {};
    case ExprKind::kSliceRows:
      return rows(*expr.args[0], member, begin + expr.begin, count, out);
    case ExprKind::kSplitHeads: {
      const int64_t head_rows = expr.args[0]->rows() / expr.stack();
      return rows(*expr.args[0], 0, member * head_rows + expr.begin + begin, count, out);
    }
    case ExprKind::kTranspose:
      return transposed_rows(expr, member, begin, count, out);
    case ExprKind::kConcat: {
      int64_t first = 0;
      for (const ExprPtr& part : expr.args) {
        const int64_t from = std::max(begin, first), to = std::min(begin + count, first + part->rows());
        if (from < to)
          TRY_STATUS(rows(*part, member, from - first, to - from, out + (from - begin) * stride));
        first += part->rows();
      }
      return {};
    }
    case ExprKind::kEncode: {
      TRY(const EncodeMethod method, parse_encode_method(expr.name));
      std::vector<float> row(static_cast<size_t>(expr.cols()));
      for (int64_t r = 0; r < count; ++r) {
        TRY_STATUS(rows_f32(*expr.args[0], member, begin + r, 1, row.data()));
        auto encoded = encode_row(expr.scheme, method, row.data(), nullptr, expr.cols(), out + r * stride);
        if (!encoded.ok())
          return std::move(encoded).error().context(fmt::format("{}, row {}", expr_text(expr), begin + r));
      }
      return {};
    }
    case ExprKind::kScaleRows:
    case ExprKind::kScaleCols:
      return rows_f32(expr, member, begin, count, reinterpret_cast<float*>(out));
  }
  return {};
}

// Columns of the argument, gathered in one pass over its rows.
Status Evaluator::transposed_rows(const Expr& expr, int64_t member, int64_t begin, int64_t count,
                                  std::byte* out) const {
  const Expr& from = *expr.args[0];
  std::vector<float> row(static_cast<size_t>(from.cols()));
  if (from.scheme != expr.scheme) {
    auto* to = reinterpret_cast<float*>(out);
    for (int64_t r = 0; r < from.rows(); ++r) {
      TRY_STATUS(rows_f32(from, member, r, 1, row.data()));
      for (int64_t c = 0; c < count; ++c) to[c * expr.cols() + r] = row[static_cast<size_t>(begin + c)];
    }
    return {};
  }
  const int64_t number = row_bytes(expr.scheme, 1);
  const auto* bytes = reinterpret_cast<const std::byte*>(row.data());  // plain numbers are at most as wide
  for (int64_t r = 0; r < from.rows(); ++r) {
    TRY_STATUS(rows(from, member, r, 1, reinterpret_cast<std::byte*>(row.data())));
    for (int64_t c = 0; c < count; ++c)
      std::memcpy(out + (c * expr.cols() + r) * number, bytes + (begin + c) * number,
                  static_cast<size_t>(number));
  }
  return {};
}

Status Evaluator::rows_f32(const Expr& expr, int64_t member, int64_t begin, int64_t count, float* out) const {
  if (expr.kind == ExprKind::kScaleRows || expr.kind == ExprKind::kScaleCols) {
    TRY_STATUS(rows_f32(*expr.args[0], member, begin, count, out));
    TRY(const TensorRef ref, resolve_tensor(checkpoint_, expr.name));
    TRY(const MatrixView view, checkpoint_.matrix(ref.name, ref.stack_index));
    const std::vector<float> vector = view.decode();
    const bool by_row = expr.kind == ExprKind::kScaleRows;
    if (static_cast<int64_t>(vector.size()) != (by_row ? expr.rows() : expr.cols()))
      return bad_input("vector '{}' has {} elements; it scales a matrix {}", expr.name, vector.size(),
                       shape_text(expr.shape));
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < expr.cols(); ++c)
        out[r * expr.cols() + c] *= vector[static_cast<size_t>(by_row ? begin + r : c)];
    return {};
  }
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(expr.scheme, expr.cols())));
  for (int64_t r = 0; r < count; ++r) {
    TRY_STATUS(rows(expr, member, begin + r, 1, bytes.data()));
    scheme_info(expr.scheme).decode_row(bytes.data(), expr.cols(), out + r * expr.cols());
  }
  return {};
}

Result<std::vector<float>> Evaluator::decode(const Expr& expr, int64_t member) const {
  std::vector<float> out(static_cast<size_t>(expr.rows() * expr.cols()));
  TRY_STATUS(rows_f32(expr, member, 0, expr.rows(), out.data()));
  return out;
}

StoredSize stored_size(Scheme scheme, const Shape& shape) {
  if (shape.size() == 1) return {row_bytes(scheme, shape[0]), row_bytes(scheme, shape[0])};
  const int64_t member = packed_bytes(scheme, shape[shape.size() - 2], shape.back());
  return {member, member * (shape.size() == 3 ? shape[0] : 1)};
}

Scheme exact_scheme(Scheme scheme) {
  const bool exact = is_float_scheme(scheme) || scheme == Scheme::kF8B128;
  return exact ? scheme : Scheme::kF32;
}

uint64_t stored_bytes(std::span<const Weight> weights, bool exact) {
  uint64_t sum = 0;
  for (const Weight& w : weights)
    sum += static_cast<uint64_t>(
        stored_size(exact ? exact_scheme(w.expr->scheme) : w.expr->scheme, w.expr->shape).total_bytes);
  return sum;
}

Status pack_member(const Evaluator& evaluator, const Expr& expr, int64_t member, Scheme stored,
                   ThreadPool& pool, std::byte* out) {
  const int64_t stride = row_bytes(stored, expr.cols());
  const auto evaluate = [&](int64_t begin, int64_t count, std::byte* to) {
    return stored == expr.scheme
               ? evaluator.rows(expr, member, begin, count, to)
               : evaluator.rows_f32(expr, member, begin, count, reinterpret_cast<float*>(to));
  };
  if (expr.shape.size() == 1) return evaluate(0, 1, out);

  const int64_t tiles = tile_count(expr.rows()), tile_bytes = packed_tile_bytes(stored, expr.cols());
  std::mutex mutex;
  Status failed;
  std::atomic<bool> stop{false};
  pool.for_each(tiles, [&](int64_t tile) {
    if (stop) return;
    const int64_t begin = tile * kTileRows, count = std::min(kTileRows, expr.rows() - begin);
    std::vector<std::byte> rows(static_cast<size_t>(stride * kTileRows));
    Status status = evaluate(begin, count, rows.data());
    if (status.ok()) {
      pack_tile(stored, rows.data(), stride, count, expr.cols(), out + tile * tile_bytes);
      return;
    }
    const std::lock_guard lock(mutex);
    failed = std::move(status);
    stop = true;
  });
  return failed;
}

Result<WeightMemory::Block> WeightMemory::allocate(uint64_t bytes) {
  const bool fits = alive_->load() <= limit_ && bytes <= limit_ - alive_->load();
  TRY(HugeBuffer buffer, fits ? HugeBuffer::allocate(bytes) : HugeBuffer::in_file(directory_, bytes));
  struct Counted {
    HugeBuffer buffer;
    std::shared_ptr<std::atomic<uint64_t>> alive;
    uint64_t bytes;
    Counted(HugeBuffer b, std::shared_ptr<std::atomic<uint64_t>> a, uint64_t n)
        : buffer(std::move(b)), alive(std::move(a)), bytes(n) {
      *alive += bytes;
    }
    ~Counted() { *alive -= bytes; }
  };
  std::byte* data = buffer.data();
  return Block{data, std::make_shared<const Counted>(std::move(buffer), alive_, fits ? bytes : 0)};
}

Result<StoredWeight> evaluate_weight(const Evaluator& evaluator, const Expr& expr, Scheme scheme,
                                     ThreadPool& pool, WeightMemory& memory) {
  const StoredSize size = stored_size(scheme, expr.shape);
  TRY(WeightMemory::Block block, memory.allocate(static_cast<uint64_t>(size.total_bytes)));
  for (int64_t member = 0; member < expr.stack(); ++member)
    TRY_STATUS(pack_member(evaluator, expr, member, scheme, pool, block.data + member * size.member_bytes));
  return StoredWeight{scheme, expr.shape, block.data, size.member_bytes, std::move(block.owner)};
}

Result<StoredWeight> TransientStore::get(const std::string& name) {
  Met& met = met_[name];
  if (auto owner = met.owner.lock()) {
    StoredWeight stored = met.weight;
    stored.owner = std::move(owner);
    return stored;
  }
  const Weight* weight = nullptr;
  for (const Graph* graph : graphs_)
    if (!weight) weight = graph->find_weight(name);
  CHECK(weight, "@{}", name);
  const Expr& expr = *weight->expr;
  auto stored =
      evaluate_weight(evaluator_, expr, exact_ ? exact_scheme(expr.scheme) : expr.scheme, pool_, memory_);
  if (!stored.ok()) return std::move(stored).error().context("weight @" + name);
  met = {*stored, stored->owner};
  met.weight.owner.reset();
  return stored;
}

}  // namespace fettle
