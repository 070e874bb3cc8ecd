// The job: from a checkpoint to an artifact with its certificate. State lives in OUT.job beside the result
// until the result is whole; a killed job goes on where it was.
#pragma once

#include <string>
#include <vector>

#include "fit/certify.h"
#include "fit/choose.h"
#include "fit/numerics.h"

namespace fettle {

struct FitOptions {
  std::string model, out, target = "local";
  Objective objective = Objective::kLatency;
  Budget budget;
  std::string scheme;     // one scheme for all groups; "": chosen by budget
  std::string plan_file;  // the decisions of an earlier job
  std::string kv_type = "bf16";
  Numerics numerics;
  std::vector<std::string> disabled_passes;
  bool verify = true, force = false;
  int threads = 0;
  Isa isa = Isa::kScalar;
  std::string cache_directory;  // measurements of this machine
  std::string source_cache;     // as CertifySubject::cache_directory
  uint64_t memory_limit = 0;    // 0: the promise of fit/memory.h
  CertifyOptions certify;
};

struct FitResult {
  std::string path;
  std::string content_digest;
  Plan plan;
  std::vector<std::string> notes;
  std::optional<Certificate> certificate;
};

// A certificate that fails its budget is an error of code kCheckFailed that says the best that was reached;
// nothing is left under the final name.
Result<FitResult> fit(const FitOptions& options);

}  // namespace fettle
