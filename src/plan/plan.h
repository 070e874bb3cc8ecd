// The plan: every decision about how a graph runs on a machine, and the measurements behind it, as plain
// data. With the same plan and source the same bytes come out. Stored as plan.json in an artifact; `fettle
// show plan` prints it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fettle {

// What a machine was measured to do; units in the names.
struct Rates {
  std::string cpu;  // model name, for people
  std::string isa;  // highest level of kernels/cpu_features.h
  int64_t threads = 0;
  double bandwidth_gbs = 0;    // reading memory, all threads
  double bandwidth_1_gbs = 0;  // one thread
  double int8_gops = 0;        // 8-bit multiply-add, two operations each, all threads
  double bf16_gflops = 0;
  double f32_gflops = 0;
  int64_t l2_bytes = 0, l3_bytes = 0, memory_bytes = 0;
};

struct WeightPlan {
  std::string scheme;  // of the stored bytes
  std::string layout;  // "n16" or "row"
  std::string reason;  // "carried", "budget", "asked for", "needed in fp32"
};

// A kernel for linears whose weight has `scheme` and whose input has the form `activation`, for t_min <= rows
// <= t_max.
struct KernelPlan {
  std::string scheme, activation, kernel;
  int64_t t_min = 1, t_max = INT64_MAX;
  double read_gbs = 0;  // measured: weight bytes at one row
  double gops = 0;      // measured: two operations a multiply-add, at many rows
};

// How much one choice costs: measured on calibration text, one weight group at a time.
struct Sensitivity {
  std::string group;  // e.g. "layers.3.down"
  std::string scheme;
  double kld = 0;  // mean, against the source
};

// What proposes tokens ahead of the model, and how many at most before the model checks them.
enum class DraftKind : uint8_t {
  kNone,
  kMtp,    // the model's own draft graph
  kNgram,  // what followed the last tokens where they occurred before
};
struct Speculation {
  DraftKind kind = DraftKind::kNone;
  int64_t tokens = 0;
  bool operator==(const Speculation&) const = default;
};
inline constexpr int64_t kMostDrafts = 16;
std::string speculation_text(const Speculation& speculation);    // "none", "mtp:2", "ngram:4"
Result<Speculation> parse_speculation(const std::string& text);  // the same; without a number: a usual one

// Decoding with and without, side by side, of the same tokens.
struct MeasuredSpeculation {
  Speculation speculation;
  int64_t batch = 1;                              // sequences at once
  double plain_tok_s = 0, speculative_tok_s = 0;  // medians, all sequences together
  double gain = 0;                                // median of the ratios of runs side by side
  double acceptance = 0;                          // share of the proposed tokens that the model drew too
};

struct Plan {
  std::string target = "local";
  std::string objective = "latency";  // latency, throughput, memory
  std::string kv_type = "bf16";
  int64_t prefill_chunk = 256;  // tokens a step
  // Latent attention over a prompt's cells of so many positions takes its expanded form
  // (runtime/kv_cache.h); 0: nowhere. By count of multiplications.
  int64_t expand_grid = 0;
  // Inputs of weights in e4m3 or e2m1: "float", "e4m3-fp32" or "e4m3-ue8m0" (the format of their scales).
  std::string activations = "float";
  bool simulate_rounding = false;  // as the model was trained to bear
  std::map<std::string, WeightPlan> weights;
  std::vector<KernelPlan> kernels;
  std::vector<Sensitivity> sensitivity;
  std::map<std::string, std::string> schemes;  // weight group -> scheme: the input of the scheme pass
  Speculation speculation;                     // of one sequence at a time
  std::vector<MeasuredSpeculation> speculations;
  Rates rates;
};

Json measured_to_json(const MeasuredSpeculation& measured);
Json plan_to_json(const Plan& plan);
Result<Plan> plan_from_json(const Json& json, const std::string& what);
Json rates_to_json(const Rates& rates);
Result<Rates> rates_from_json(const Json& json, const std::string& what);

}  // namespace fettle
