#include "fit/pack.h"

#include <algorithm>

#include "base/background.h"
#include "base/progress.h"
#include "kernels/linear/layout.h"
#include "weights/evaluate.h"

namespace fettle {

namespace {

constexpr int64_t kPieceBytes = int64_t{16} << 20;
constexpr size_t kPieces = 3;  // one being computed, one being written, one between them

uint64_t total_bytes(std::span<const Weight> weights) {
  uint64_t sum = 0;
  for (const Weight& w : weights)
    sum += static_cast<uint64_t>(stored_size(w.expr->scheme, w.expr->shape).total_bytes);
  return sum;
}

class Packer {
 public:
  Packer(std::span<const Weight> weights, const Checkpoint& checkpoint, ThreadPool& pool,
         ArtifactWriter& writer, const std::function<void(double share)>& packed)
      : weights_(weights),
        evaluator_(checkpoint),
        pool_(pool),
        writer_(writer),
        packed_(packed),
        total_(total_bytes(weights)),
        progress_("packing weights", total_, ProgressUnit::kBytes) {}

  Status run() {
    done_ = writer_.bytes_done();
    if (done_ > 0) progress_.skip(done_);
    for (const Weight& w : weights_)
      if (!writer_.has(w.name)) TRY_STATUS(pack(w));
    TRY_STATUS(background_.wait());
    progress_.finish();
    return writer_.commit();
  }

 private:
  Status pack(const Weight& w) {
    const Expr& e = *w.expr;
    const bool vector = e.shape.size() == 1;
    const int64_t tile_bytes =
        vector ? stored_size(e.scheme, e.shape).total_bytes : packed_tile_bytes(e.scheme, e.cols());
    const int64_t tiles = stored_size(e.scheme, e.shape).total_bytes / tile_bytes,
                  step = std::max(int64_t{1}, kPieceBytes / tile_bytes);
    const WeightEntry entry{w.name, std::string(scheme_name(e.scheme)), vector ? "row" : "n16", "", "",
                            e.shape};
    for (int64_t first = 0; first < tiles; first += step) {
      const int64_t count = std::min(step, tiles - first);
      std::vector<std::byte>& piece = pieces_[next_++ % kPieces];
      piece.resize(static_cast<size_t>(count * tile_bytes));
      auto done = pack_tiles(evaluator_, e, e.scheme, {first, first + count}, pool_, piece.data());
      if (!done.ok()) return std::move(done).error().context("weight @" + w.name);
      TRY_STATUS(background_.post([this, entry, &piece, begins = first == 0, ends = first + count == tiles] {
        return write(entry, piece, begins, ends);
      }));
    }
    return {};
  }

  Status write(const WeightEntry& entry, const std::vector<std::byte>& piece, bool begins, bool ends) {
    if (begins) TRY_STATUS(writer_.begin_weight(entry));
    TRY_STATUS(writer_.append(piece.data(), piece.size()));
    if (ends) TRY_STATUS(writer_.end_weight());
    progress_.add(piece.size());
    done_ += piece.size();
    packed_(static_cast<double>(done_) / static_cast<double>(total_));
    return {};
  }

  const std::span<const Weight> weights_;
  const Evaluator evaluator_;
  ThreadPool& pool_;
  ArtifactWriter& writer_;
  const std::function<void(double share)>& packed_;
  const uint64_t total_;
  uint64_t done_ = 0;
  Progress progress_;
  std::vector<std::byte> pieces_[kPieces];
  size_t next_ = 0;
  Background background_{kPieces - 1};  // last: its jobs use all of the above
};

}  // namespace

Status pack_weights(std::span<const Weight> weights, const Checkpoint& checkpoint, ThreadPool& pool,
                    ArtifactWriter& writer, const std::function<void(double share)>& packed) {
  return Packer(weights, checkpoint, pool, writer, packed).run();
}

}  // namespace fettle
