// The inside of an executor, shared with those who drive its parts themselves (sweep.cc).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/compile.h"
#include "runtime/executor.h"

namespace fettle {

// New rows of one sequence, from a position on.
struct RowsInput {
  Sequence* sequence;
  int64_t first;
  std::span<const int32_t> tokens;
  Logits logits;
};

struct Executor::Impl {
  Model model;
  ExecutorOptions options;
  std::shared_ptr<ThreadPool> team;
  ThreadPool& pool;
  std::shared_ptr<KvCache> cache;
  Frame frame;
  std::vector<Part> parts;
  std::vector<std::optional<Program>> programs;  // by part; empty: not open
  std::map<std::string, uint64_t> weight_bytes;  // of every weight met so far
  std::vector<std::vector<float>> scratch;       // by worker
  std::vector<std::vector<float>> rope_tables;   // by rope
  std::vector<bool> observed;                    // by node
  Observer observer;
  ValueId state;                // the value that a draft goes on from
  std::unique_ptr<Impl> draft;  // the executor of the draft graph: over the same cache, by the same team

  Impl(Model m, const ExecutorOptions& o)
      : model(std::move(m)),
        options(o),
        team(o.pool ? o.pool : std::make_shared<ThreadPool>(o.threads)),
        pool(*team) {}

  Status prepare(const FrameOptions& frames);
  Status check(std::span<const RowsInput> inputs) const;
  // Makes room, runs all parts, returns the logits.
  Result<std::span<const float>> run(std::span<const RowsInput> inputs, const float* states);
  // Fetches what a part needs; a part that is open stays so.
  Status open(size_t part);
  void close(size_t part) {
    if (options.stream) programs[part].reset();
  }
  // Runs open parts [begin, end).
  void execute(size_t begin, size_t end, Run& run);
};

}  // namespace fettle
