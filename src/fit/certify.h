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
  int64_t generated_prompts = 8, generated_tokens = 96;
  int64_t max_windows = 0;  // 0: all; otherwise the first so many (quick looks; said in the certificate)
  Budget budget;
  std::string created;  // ISO 8601
  std::string made_by;
};

// `adapted` and `source` are opened models over the same tokens; the source exact.
Result<Certificate> certify(OpenedModel& source, OpenedModel& adapted, const CertifyOptions& options);

// Fills in what the graph and plan of an adapted model say about bytes, schemes and carried tensors.
void describe_weights(const Graph& graph, Certificate* certificate);

// Measures prefill and decode of an executor: medians of a few rounds.
Speed measure_speed(Executor& executor);

}  // namespace fettle
