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

struct Plan {
  std::string target = "local";
  std::string objective = "latency";  // latency, throughput, memory
  std::string kv_type = "bf16";
  int64_t prefill_chunk = 256;  // tokens a step
  std::map<std::string, WeightPlan> weights;
  std::vector<KernelPlan> kernels;
  std::vector<Sensitivity> sensitivity;
  std::map<std::string, std::string> schemes;  // weight group -> scheme: the input of the scheme pass
  Rates rates;
};

Json plan_to_json(const Plan& plan);
Result<Plan> plan_from_json(const Json& json, const std::string& what);
Json rates_to_json(const Rates& rates);
Result<Rates> rates_from_json(const Json& json, const std::string& what);

}  // namespace fettle
