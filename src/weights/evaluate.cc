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
      std::memcpy(out, view.row(begin), static_cast<size_t>(count * stride));
      return {};
    }
    case ExprKind::kPermuteRows:
      for (int64_t r = 0; r < count; ++r)
        TRY_STATUS(rows(*expr.args[0], member, permuted_row(begin + r, expr.rows(), expr.heads), 1,
                        out + r * stride));
      return {};
    case ExprKind::kSliceRows:
      return rows(*expr.args[0], member, begin + expr.begin, count, out);
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

Status pack_member(const Evaluator& evaluator, const Expr& expr, int64_t member, bool as_f32,
                   ThreadPool& pool, std::byte* out) {
  const Scheme scheme = as_f32 ? Scheme::kF32 : expr.scheme;
  const int64_t stride = row_bytes(scheme, expr.cols());
  const auto evaluate = [&](int64_t begin, int64_t count, std::byte* to) {
    return as_f32 ? evaluator.rows_f32(expr, member, begin, count, reinterpret_cast<float*>(to))
                  : evaluator.rows(expr, member, begin, count, to);
  };
  if (expr.shape.size() == 1) return evaluate(0, 1, out);

  const int64_t tiles = tile_count(expr.rows()), tile_bytes = packed_tile_bytes(scheme, expr.cols());
  std::mutex mutex;
  Status failed;
  std::atomic<bool> stop{false};
  pool.for_each(tiles, [&](int64_t tile) {
    if (stop) return;
    const int64_t begin = tile * kTileRows, count = std::min(kTileRows, expr.rows() - begin);
    std::vector<std::byte> rows(static_cast<size_t>(stride * kTileRows));
    Status status = evaluate(begin, count, rows.data());
    if (status.ok()) {
      pack_tile(scheme, rows.data(), stride, count, expr.cols(), out + tile * tile_bytes);
      return;
    }
    const std::lock_guard lock(mutex);
    failed = std::move(status);
    stop = true;
  });
  return failed;
}

Result<StoredWeight> evaluate_weight(const Evaluator& evaluator, const Expr& expr, bool as_f32,
                                     ThreadPool& pool) {
  StoredWeight stored{as_f32 ? Scheme::kF32 : expr.scheme, expr.shape, nullptr, 0, nullptr};
  const StoredSize size = stored_size(stored.scheme, expr.shape);
  TRY(HugeBuffer buffer, HugeBuffer::allocate(static_cast<uint64_t>(size.total_bytes)));
  for (int64_t member = 0; member < expr.stack(); ++member)
    TRY_STATUS(
        pack_member(evaluator, expr, member, as_f32, pool, buffer.data() + member * size.member_bytes));
  stored.data = buffer.data();
  stored.member_bytes = size.member_bytes;
  stored.owner = std::make_shared<const HugeBuffer>(std::move(buffer));
  return stored;
}

Result<StoredWeight> TransientStore::get(const std::string& name) {
  if (const auto it = alive_.find(name); it != alive_.end()) return it->second;
  const Weight* weight = graph_.find_weight(name);
  CHECK(weight, "@{}", name);
  auto stored = evaluate_weight(evaluator_, *weight->expr, exact_, pool_);
  if (!stored.ok()) return std::move(stored).error().context("weight @" + name);
  return alive_[name] = *stored;
}

}  // namespace fettle
