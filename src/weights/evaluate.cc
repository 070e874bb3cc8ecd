#include "weights/evaluate.h"

#include <atomic>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "base/huge_buffer.h"
#include "checkpoint/tensor_names.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/linear/layout.h"
#include "quant/encode.h"

namespace fettle {

namespace {

// Rows are computed so many at a time, a multiple of a tile: what is on the way stays in cache, and what is
// transposed is not read for every tile anew.
int64_t chunk_rows(int64_t cols) {
  constexpr int64_t kElements = 128 << 10;
  return std::max(kElements / cols / kTileRows, int64_t{1}) * kTileRows;
}

template <typename F>
Status in_chunks(int64_t begin, int64_t count, int64_t cols, F f) {
  const int64_t chunk = chunk_rows(cols);
  for (int64_t done = 0; done < count; done += chunk)
    TRY_STATUS(f(begin + done, std::min(chunk, count - done), done));
  return {};
}

// Large checkpoints consist of f8b128, hence the vectors; the numbers are those of scheme_info.
void decode_row(Scheme scheme, const std::byte* row, int64_t k, float* out) {
  if (scheme != Scheme::kF8B128) return scheme_info(scheme).decode_row(row, k, out);
  static const ElementwiseKernels& kernels = find_elementwise_kernels(detect_isa());
  const std::byte* scales = row + f8_code_bytes(k);
  for (int64_t at = 0; at < k; at += kF8Block, scales += sizeof(float)) {
    float scale;
    std::memcpy(&scale, scales, sizeof scale);
    kernels.scale_e4m3(reinterpret_cast<const uint8_t*>(row + at), std::min(kF8Block, k - at), scale,
                       out + at);
  }
}

}  // namespace

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
    case ExprKind::kAppend: {
      auto part = expr.args.begin();
      for (; member >= (*part)->stack(); ++part) member -= (*part)->stack();
      return rows(**part, member, begin, count, out);
    }
    case ExprKind::kEncode: {
      TRY(const EncodeMethod method, parse_encode_method(expr.name));
      std::vector<float> plain(static_cast<size_t>(std::min(chunk_rows(expr.cols()), count) * expr.cols()));
      return in_chunks(begin, count, expr.cols(), [&](int64_t first, int64_t n, int64_t done) -> Status {
        TRY_STATUS(rows_f32(*expr.args[0], member, first, n, plain.data()));
        for (int64_t r = 0; r < n; ++r) {
          auto encoded = encode_row(expr.scheme, method, plain.data() + r * expr.cols(), nullptr, expr.cols(),
                                    out + (done + r) * stride);
          if (!encoded.ok())
            return std::move(encoded).error().context(fmt::format("{}, row {}", expr_text(expr), first + r));
        }
        return {};
      });
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
  std::vector<float> rows_of(
      static_cast<size_t>(std::min(chunk_rows(from.cols()), from.rows()) * from.cols()));
  const bool moves = from.scheme == expr.scheme;
  const int64_t number = row_bytes(expr.scheme, 1);
  const auto* bytes =
      reinterpret_cast<const std::byte*>(rows_of.data());  // plain numbers are at most as wide
  return in_chunks(0, from.rows(), from.cols(), [&](int64_t first, int64_t n, int64_t) -> Status {
    TRY_STATUS(moves ? rows(from, member, first, n, reinterpret_cast<std::byte*>(rows_of.data()))
                     : rows_f32(from, member, first, n, rows_of.data()));
    for (int64_t c = 0; c < count; ++c)
      for (int64_t r = 0; r < n; ++r)
        std::memcpy(out + (c * expr.cols() + first + r) * number,
                    bytes + (r * from.cols() + begin + c) * number, static_cast<size_t>(number));
    return {};
  });
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
  const int64_t stride = row_bytes(expr.scheme, expr.cols());
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(chunk_rows(expr.cols()), count) * stride));
  return in_chunks(begin, count, expr.cols(), [&](int64_t first, int64_t n, int64_t done) -> Status {
    TRY_STATUS(rows(expr, member, first, n, bytes.data()));
    for (int64_t r = 0; r < n; ++r)
      decode_row(expr.scheme, bytes.data() + r * stride, expr.cols(), out + (done + r) * expr.cols());
    return {};
  });
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
  const bool exact = is_float_scheme(scheme) || scheme == Scheme::kF8B128 || scheme == Scheme::kMXFP4;
  return exact ? scheme : Scheme::kF32;
}

uint64_t stored_bytes(std::span<const Weight> weights, bool exact) {
  uint64_t sum = 0;
  for (const Weight& w : weights)
    sum += static_cast<uint64_t>(
        stored_size(exact ? exact_scheme(w.expr->scheme) : w.expr->scheme, w.expr->shape).total_bytes);
  return sum;
}

Status pack_tiles(const Evaluator& evaluator, const Expr& expr, Scheme stored, Slice tiles, ThreadPool& pool,
                  std::byte* out) {
  const auto evaluate = [&](int64_t member, int64_t begin, int64_t count, std::byte* to) {
    return stored == expr.scheme
               ? evaluator.rows(expr, member, begin, count, to)
               : evaluator.rows_f32(expr, member, begin, count, reinterpret_cast<float*>(to));
  };
  if (expr.shape.size() == 1) return evaluate(0, 0, 1, out);

  const int64_t stride = row_bytes(stored, expr.cols()), tile_bytes = packed_tile_bytes(stored, expr.cols());
  const int64_t of_member = tile_count(expr.rows()), chunk = chunk_rows(expr.cols()) / kTileRows;
  std::mutex mutex;
  Status failed;
  std::atomic<bool> stop{false};
  pool.for_each((tiles.end - tiles.begin + chunk - 1) / chunk, [&](int64_t i) {
    std::vector<std::byte> rows(static_cast<size_t>(stride * kTileRows * chunk));
    const int64_t last = std::min(tiles.end, tiles.begin + (i + 1) * chunk);
    for (int64_t tile = tiles.begin + i * chunk; tile < last && !stop;) {
      const int64_t member = tile / of_member, begin = tile % of_member * kTileRows;
      const int64_t count = std::min(expr.rows() - begin, (last - tile) * kTileRows);
      Status status = evaluate(member, begin, count, rows.data());
      if (!status.ok()) {
        const std::lock_guard lock(mutex);
        failed = std::move(status);
        stop = true;
        return;
      }
      for (int64_t r = 0; r < count; r += kTileRows, ++tile)
        pack_tile(stored, rows.data() + r * stride, stride, std::min(kTileRows, count - r), expr.cols(),
                  out + (tile - tiles.begin) * tile_bytes);
    }
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
  const int64_t tiles = expr.stack() * tile_count(expr.rows());
  TRY_STATUS(pack_tiles(evaluator, expr, scheme, {0, tiles}, pool, block.data));
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
