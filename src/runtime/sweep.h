// Runs whole sequences through an executor part by part (what precedes the first layer, each layer, what
// follows the last): a part's weights are fetched once, used for every chunk of every sequence, and dropped,
// so a model larger than memory passes through it once. Between parts there is one fp32 value, the residual
// stream, which the caller keeps and may exchange. Logits are those of Executor::feed, bit for bit.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/huge_buffer.h"
#include "runtime/executor.h"

namespace fettle {

// A stretch of a sequence that goes through at once. `row`: of its first token among the tokens of all
// sequences.
struct Chunk {
  size_t sequence;
  int64_t first, count, row;
};

class Sweep {
 public:
  // The sequences must outlive the sweep; nothing else may use the executor meanwhile. kUnsupported when more
  // than one value crosses from a layer into the next.
  static Result<Sweep> create(Executor& executor, std::span<const std::vector<int32_t>> sequences);
  ~Sweep();
  Sweep(Sweep&& other) noexcept;
  Sweep& operator=(Sweep&&) = delete;

  const std::vector<Chunk>& chunks() const { return chunks_; }
  size_t parts() const;
  int64_t layer(size_t part) const;         // -1: before the first or after the last
  int64_t width() const { return width_; }  // columns of the residual stream
  int64_t rows() const;                     // tokens of all sequences

  // Fetches a part's weights and drops those of the part opened before it.
  Status open(size_t part);
  void close();
  // Takes a chunk through the open part; all chunks of a sequence in order. `stream`, the residual stream of
  // the chunk [count, width], goes in (but for the first part) and comes out (but for the last). Returns the
  // logits [count, vocab] in the last part, valid until the next run.
  std::span<const float> run(const Chunk& chunk, float* stream);

 private:
  explicit Sweep(Executor& executor) : executor_(&executor) {}
  Status find_streams();

  Executor* executor_;
  std::span<const std::vector<int32_t>> sequences_;
  std::vector<Chunk> chunks_;
  std::vector<ValueId> streams_;  // by part: the value that crosses into it; the first part has none
  Sequence place_;                // the one stretch of cache that all sequences use in turn
  int64_t width_ = 0;
  size_t part_ = SIZE_MAX;
};

// The residual stream of all chunks between two parts.
class ResidualStream {
 public:
  // In an unnamed file in `directory`; "": in memory.
  static Result<ResidualStream> create(const Sweep& sweep, const std::string& directory);
  float* at(const Chunk& chunk) const { return reinterpret_cast<float*>(rows_.data()) + chunk.row * width_; }
  void copy_from(const ResidualStream& other);

 private:
  HugeBuffer rows_;
  int64_t width_ = 0;
};

}  // namespace fettle
