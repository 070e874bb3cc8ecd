// The certificate of an adapted model against its source: what `fit` ends with and `verify` repeats.
#pragma once

#include <string>
#include <vector>

#include "fit/open_model.h"
#include "quality/certificate.h"
#include "quality/evaluate.h"

namespace fettle {

struct CertifyOptions {
  std::string text_file;   // replaces the built-in evaluation text
  std::string tasks_file;  // adds task scores
  int64_t max_task_tokens = 1024;
  int64_t generated_prompts = 8;
  int64_t generated_tokens = 96;  // at most: fewer when every token means reading a large source again
  int64_t max_windows = 0;  // 0: all; otherwise the first so many (quick looks; said in the certificate)
  Budget budget;
  std::string created;  // ISO 8601
  std::string made_by;
};

// What is compared: a source, run exactly, and what was made of it.
struct CertifySubject {
  std::string source, adapted;
  int threads = 0;
  Isa isa = Isa::kScalar;
  int64_t cache_tokens = 2048;
  uint64_t memory_limit = 0;  // 0: the promise of fit/memory.h
  std::string spill_directory;
  std::string source_digest{};  // "": found out
  std::string
      cache_directory;  // where what the source did is remembered (quality/source_cache.h); "": nowhere
};
Result<Certificate> certify(const CertifySubject& subject, const CertifyOptions& options);

// Fills in what the graphs of an adapted model say about bytes, schemes and carried tensors: of the draft,
// what its own weights add to the bytes.
void describe_weights(const Graph& graph, const std::optional<Graph>& draft, Certificate* certificate);

// Measures prefill and decode of an executor: medians of a few rounds.
Speed measure_speed(Executor& executor);

}  // namespace fettle
