// The certificate: what adapting a model cost, measured against its source on held-out text and on text that
// the source itself generated, and whether that stays within a budget. A plain value: it prints
// (certificate_table), is stored (certificate_to_json, schema version 1) and is read back with every field
// checked. NaN means "not measured" or "no such limit"; an infinite KLD means that the adapted model's output
// was not a distribution, or excludes what the source says.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "quality/metrics.h"

namespace fettle {

inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();
inline constexpr int kCertificateSchema = 1;

// The limits that decide. Text form: "kld=0.01,p99=0.1,top1=0.97,ppl=1.02", any of them.
struct Budget {
  std::optional<double> kld_mean;       // nats, at most
  std::optional<double> kld_p99;        // nats, at most
  std::optional<double> top1_min;       // share of positions, at least
  std::optional<double> ppl_ratio_max;  // adapted / source perplexity, at most
  bool empty() const { return !kld_mean && !kld_p99 && !top1_min && !ppl_ratio_max; }
};
Result<Budget> parse_budget(std::string_view text);
std::string budget_text(const Budget& budget);

// One comparison with a limit, or one check (then there is nothing numeric).
struct Verdict {
  std::string what;
  double measured = kNotMeasured;
  double limit = kNotMeasured;
  bool passed = false;
  std::string why;
};

struct KldQuantile {
  double q = 0, kld = 0;
};

// Adapted against source on one body of text.
struct DriftPart {
  DriftSummary drift;
  std::vector<KldQuantile> kld_quantiles;
  std::vector<double>
      kld_by_position;  // mean over all windows of positions [i * bucket, (i + 1) * bucket); NaN: none
  int64_t position_bucket = 0;
};
DriftPart drift_part(std::span<const std::vector<PositionScore>> windows, int64_t buckets = 32);

struct GreedyPrefix {
  double mean = 0;  // tokens equal to the source's from the start
  int64_t of = 0;   // tokens compared at most
};

struct TaskScore {
  std::string name;
  int64_t count = 0;
  Interval source, adapted;  // share of answers right
};
TaskScore task_score(std::string name, int64_t count, int64_t source_right, int64_t adapted_right);

struct Check {
  bool passed = false;
  std::string detail;
};

// Measured on `device`, or predicted for it; bounds NaN where there is no interval.
struct Speed {
  Interval prefill_tok_s, decode_tok_s;
  int64_t threads = 0;
  bool measured = false;
  std::string device;
};

struct MemoryUse {
  int64_t weights_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  std::optional<int64_t> peak_bytes;
};

struct SchemeShare {
  std::string scheme;
  int64_t tensors = 0, parameters = 0, bytes = 0;
};

struct LayerError {
  int64_t layer = 0;
  double relative_error = 0;  // |adapted - source| / |source| of the hidden state after this layer, 2-norms
};

struct SchemeSpeed {
  std::string scheme;
  double value = 0;
  bool tokens = false;  // tokens/s of the whole model; otherwise GB/s of weights read
};

struct Certificate {
  bool passed = false;
  std::vector<Verdict> verdicts;

  std::string model;   // name shown
  std::string source;  // where it was read from
  std::string architecture;
  int64_t parameters = 0;
  std::string target;
  std::string created;  // ISO 8601, given by the caller
  std::string made_by;  // "fettle 0.1.0"

  DriftPart evaluation;                // held-out text: the figures at the top of the JSON
  std::optional<DriftPart> generated;  // continuations by the source itself
  using GreedyPrefix = ::fettle::GreedyPrefix;
  std::optional<GreedyPrefix> greedy_prefix;
  std::optional<double>
      router_overlap;  // share of the source's chosen experts that the adapted model chooses too
  std::vector<TaskScore> tasks;
  std::optional<Check> template_round_trip, repetition, language_mix;

  std::optional<Speed> speed;
  MemoryUse memory;
  int64_t carried = 0;      // tensors kept bit for bit
  int64_t requantised = 0;  // tensors whose numbers changed
  std::vector<SchemeShare> schemes;
  std::vector<LayerError> kld_by_layer;
  std::vector<SchemeSpeed> speed_by_scheme;

  std::string content_digest, source_digest,
      parent_digest;  // the artifact, what it was made from, an export's artifact
  std::string evaluation_sha256;
  Budget budget;
};

// The three checks in the order in which they are printed, with the names they have in JSON and for people.
struct NamedCheck {
  std::string_view field, title;
  std::optional<Check> Certificate::*check;
};
std::span<const NamedCheck> certificate_checks();
std::string checks_not_tried(const Certificate& certificate);  // their titles, joined by commas

// Fills verdicts and passed from the measurements, the checks and certificate->budget. Means and shares are
// judged by their point estimate; a verdict says so when the 95 % interval reaches across the limit.
void apply_budget(Certificate* certificate);

Json certificate_to_json(const Certificate& certificate);
// `what` names the file in errors. Unknown fields are ignored; a verdict or a headline figure that
// contradicts the rest is refused.
Result<Certificate> certificate_from_json(const Json& json, const std::string& what);

// "PASSED", "FAILED", or "MEASURED" where nothing failed because no budget was set to judge by.
std::string_view certificate_outcome(const Certificate& certificate);

// The text that the command line prints; ends in a newline.
std::string certificate_table(const Certificate& certificate);

}  // namespace fettle
