// Any MODEL ready to run: an artifact as it is; a checkpoint or GGUF either exactly (fp32 everywhere, the
// source side of every certificate) or adapted on the fly with the source's own schemes.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "arch/arch.h"
#include "artifact/artifact.h"
#include "fit/memory.h"
#include "fit/numerics.h"
#include "passes/pass.h"
#include "runtime/executor.h"

namespace fettle {

struct OpenOptions {
  bool exact = false;
  int threads = 0;
  Isa isa = detect_isa();
  int64_t max_tokens = 256;
  int64_t max_logit_rows = 64;
  int64_t cache_tokens = 0;  // 0: the model's context, at most 8192
  PassOptions passes{};      // for checkpoints
  Numerics numerics{};       // for checkpoints
  // What drafts; absent: as the artifact's plan says. The graph that drafts is opened for its own kind only.
  std::optional<Speculation> speculation = Speculation{};
  MemoryBound memory{};
};

struct OpenedModel {
  std::string path;
  std::unique_ptr<Checkpoint> checkpoint;  // null for an artifact
  std::unique_ptr<Artifact> artifact;      // null for a checkpoint
  std::unique_ptr<AdaptedGraphs> graphs;   // what transient weights are evaluated from
  std::unique_ptr<ThreadPool> pool;        // evaluates weights of a checkpoint
  std::map<std::string, std::string> text_files;
  std::unique_ptr<Executor> executor;
  Speculation speculation;  // that was asked for, or planned
  uint64_t held_bytes = 0;  // of weights in the process's own memory for as long as the model is open
  double load_s = 0;
};

Result<OpenedModel> open_model(const std::string& path, const OpenOptions& options);

// Only the text files, without touching weights.
Result<std::map<std::string, std::string>> open_text_files(const std::string& path);

// SHA-256 over names, sizes and contents of the checkpoint's files.
Result<std::string> source_digest(const Checkpoint& checkpoint);

// "auto" or a level's name; more than this machine has is refused.
Result<Isa> choose_isa(const std::string& name);

}  // namespace fettle
