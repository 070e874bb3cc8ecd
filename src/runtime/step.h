// What the executor runs: a list of steps compiled from the graph's nodes. Every worker of the team calls
// run() of every step; a barrier follows each. Values live in one arena; a Value says where and how.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "graph/graph.h"
#include "kernels/attention/attention.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/linear/linear.h"
#include "runtime/kv_cache.h"
#include "runtime/weight_store.h"

namespace fettle {

// One value's place. fp32 values: row r at data + r * ld floats. Rounded values: a buffer of the linear
// kernels' form.
struct Value {
  ValueType type;
  std::byte* data = nullptr;
  int64_t ld = 0;

  float* row(int64_t r) const { return reinterpret_cast<float*>(data) + r * ld; }
};

// The part of a batch that is one sequence: rows [row_begin, row_begin + count), at positions
// first_position...
struct SequenceRows {
  int64_t row_begin, count, first_position;
  const int32_t* table;
};

// A row's chosen experts, k a row.
struct Route {
  int32_t expert;
  float weight;
};

// One call of forward.
struct Run {
  ThreadPool& pool;
  int workers;
  int64_t tokens;                      // T
  int64_t selected;                    // R
  std::span<const int32_t> ids;        // [T]
  std::span<const int64_t> positions;  // [T]
  std::span<const int64_t> selected_rows;
  std::span<const SequenceRows> sequences;
  std::vector<std::vector<float>>& scratch;  // by worker

  int64_t rows(const ValueType& type) const { return type.rows == Rows::kTokens ? tokens : selected; }
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(Run& run, int worker) = 0;
  virtual int64_t scratch_floats() const { return 0; }  // wanted of every worker's scratch
};

inline Activation activation_of(Form form) {
  switch (form) {
    case Form::kBF16:
      return Activation::kBF16;
    case Form::kQ8G32:
      return Activation::kQ8G32;
    case Form::kQ8T:
      return Activation::kQ8T;
    case Form::kF8G128:
      return Activation::kF8G128;
    case Form::kF8G128Ue8m0:
      return Activation::kF8G128Ue8m0;
    default:
      return Activation::kF32;
  }
}

// Stores an fp32 row as row r of a value in the value's form; a plain copy for fp32.
class RowWriter {
 public:
  RowWriter() = default;
  RowWriter(const Value& value, Isa isa);
  // Where to compute row r: the value itself if it is fp32, else the scratch given.
  float* target(int64_t r, float* scratch) const { return is_f32_ ? value_.row(r) : scratch; }
  void store(const float* x, int64_t rows, int64_t r) const {
    if (!is_f32_) quantise_(x, value_.type.cols, value_.data, rows, r);
  }

 private:
  Value value_;
  bool is_f32_ = true;
  QuantiseRowFn quantise_ = nullptr;
};

// One matrix bound to its kernels.
struct BoundLinear {
  StoredWeight weight;
  int64_t n = 0, k = 0;
  std::vector<float> bias;
  struct Choice {
    int64_t t_max;
    LinearFn run;
  };
  std::vector<Choice> choices;  // ascending t_max

  LinearFn kernel(int64_t t) const {
    for (const Choice& c : choices)
      if (t <= c.t_max) return c.run;
    return choices.back().run;
  }
};

// steps.cc
std::unique_ptr<Step> make_embed_step(StoredWeight table, const Value& out);
std::unique_ptr<Step> make_rms_norm_step(const Value& x, std::vector<float> gain, float eps, const Value& out,
                                         Isa isa);
std::unique_ptr<Step> make_quantise_step(const Value& x, const Value& out, Isa isa);
std::unique_ptr<Step> make_linear_step(const Value& x, std::vector<BoundLinear> segments, const Value& out,
                                       bool accumulate);
std::unique_ptr<Step> make_rope_step(const Value& x, const Value& out, int64_t heads, const Rope& rope,
                                     Isa isa);
std::unique_ptr<Step> make_add_step(const Value& a, const Value& b, const Value& out, Isa isa);
std::unique_ptr<Step> make_silu_mul_step(const Value& gate, const Value& up, const Value& out, Isa isa);
std::unique_ptr<Step> make_select_rows_step(const Value& x, const Value& out);
std::unique_ptr<Step> make_copy_step(const Value& x, const Value& out);

// attention_step.cc. `plain` is where fp32 results go before rounding; equal to out when out is fp32.
struct AttentionStepArgs {
  Value q, k, v, plain, out;
  int64_t heads;
  float scale;
  KvCache* cache;
  int64_t cache_index;
  Isa isa;
};
Result<std::unique_ptr<Step>> make_attention_step(const AttentionStepArgs& args);

// experts_step.cc. Routes are rows of k Route in the value's bytes.
std::unique_ptr<Step> make_route_step(const Value& scores, const Value& out, int64_t k, bool normalise,
                                      float scale, Isa isa);
struct ExpertsStepArgs {
  Value x, routes, out;
  int64_t k, experts, inner, max_rows;
  Form inner_form;
  BoundLinear gate, up, down;  // weight.data is member 0
  Isa isa;
};
std::unique_ptr<Step> make_experts_step(ExpertsStepArgs args);

// How values are shared out: a plain row loop.
template <typename F>
void for_rows(const Run& run, const ValueType& type, int worker, F f) {
  const Slice slice = slice_of(run.rows(type), worker, run.workers);
  for (int64_t r = slice.begin; r < slice.end; ++r) f(r);
}

}  // namespace fettle
