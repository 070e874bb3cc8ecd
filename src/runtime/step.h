// What the executor runs: a list of steps compiled from the graph's nodes. Every worker of the team calls
// run() of every step; a barrier follows wherever the next step needs what other workers did. Values live in
// one arena; a Value says where and how.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
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
  std::span<const std::vector<int32_t>> tables;  // by group of the cache
  Slice expanded{0, 0};  // of the rows, counted from row_begin: those of a prompt's whole cells (kv_cache.h)

  int64_t end_position() const { return first_position + count; }
  // Of a position's entry in a cache that keeps all.
  std::byte* block(const KvCache& cache, int64_t index, int64_t position) const {
    const auto& table = tables[static_cast<size_t>(cache.group(index))];
    return cache.pool(index) +
           table[static_cast<size_t>(position / kBlockTokens)] * cache.block_stride(index);
  }
};
SequenceRows sequence_rows(const Sequence& sequence, int64_t row_begin, int64_t first_position,
                           int64_t count);

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
  std::vector<std::vector<float>>& scratch;      // by worker
  std::vector<std::vector<float>>& rope_tables;  // by rope of the graph; filled by fill_rope_tables
  const float* states = nullptr;                 // [T, columns of the state], of a draft

  int64_t rows(const ValueType& type) const { return type.rows == Rows::kTokens ? tokens : selected; }
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(Run& run, int worker) = 0;
  virtual int64_t scratch_floats() const { return 0; }  // wanted of every worker's scratch
  // A step that ends by token writes, of values, only the rows of the worker's own tokens (for_rows); one
  // that begins by token reads only those before its first barrier, and writes them in place or elsewhere
  // than in values. Between such two there is no barrier.
  virtual bool ends_by_token() const { return false; }
  virtual bool begins_by_token() const { return false; }
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
  const Value& value() const { return value_; }
  // Where to compute row r: the value itself if it is fp32, else the scratch given.
  float* target(int64_t r, float* scratch) const { return is_f32_ ? value_.row(r) : scratch; }
  void store(const float* x, int64_t rows, int64_t r, std::byte* data) const {
    if (!is_f32_) quantise_(x, value_.type.cols, data, rows, r);
  }

 private:
  Value value_;
  bool is_f32_ = true;
  QuantiseRowFn quantise_ = nullptr;
};

// A step each of whose rows depends on the same row of its inputs alone, so that a reader of few rows can
// compute them for itself.
class RowStep : public Step {
 public:
  RowStep(const Value& out, Isa isa) : writer_(out, isa) {}
  void run(Run& run, int worker) final;
  bool ends_by_token() const final { return writer_.value().type.rows == Rows::kTokens; }
  // Row r of `rows`, into the value itself or, unless that is fp32, into another buffer of its form.
  virtual void compute(int64_t r, int64_t rows, std::byte* data, float* scratch) const = 0;
  const Value& out() const { return writer_.value(); }

 protected:
  RowWriter writer_;
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
std::unique_ptr<RowStep> make_rms_norm_step(const Value& x, std::vector<float> gain, float eps,
                                            const Value& out, Isa isa);
std::unique_ptr<RowStep> make_layer_norm_step(const Value& x, std::vector<float> gain,
                                              std::vector<float> bias, float eps, const Value& out, Isa isa);
std::unique_ptr<RowStep> make_quantise_step(const Value& x, const Value& out, Isa isa);
struct LinearStepArgs {
  Value x;
  std::unique_ptr<RowStep> producer;  // of x, which nobody else reads; or null: x is there already
  std::vector<BoundLinear> segments;
  Value out;
  bool accumulate;
};
std::unique_ptr<Step> make_linear_step(LinearStepArgs args);
struct RopeStepArgs {
  Value x, out;
  int64_t heads, at, index;  // first lane; of the rope in the graph
  const Rope& rope;
  Isa isa;
};
std::unique_ptr<Step> make_rope_step(const RopeStepArgs& args);
// The cosines of a position's angles, then their sines.
void rope_angles(const Rope& rope, int64_t position, float* out);
// The same for every token; each worker for its own.
void fill_rope_tables(std::span<const Rope> ropes, Run& run, int worker);
std::unique_ptr<Step> make_add_step(const Value& a, const Value& b, const Value& out, Isa isa);
// limit 0: none
std::unique_ptr<RowStep> make_silu_mul_step(const Value& gate, const Value& up, float limit, const Value& out,
                                            Isa isa);
std::unique_ptr<Step> make_select_rows_step(const Value& x, const Value& out);
std::unique_ptr<Step> make_state_step(const Value& out);
std::unique_ptr<RowStep> make_join_step(const Value& a, const Value& b, const Value& out, Isa isa);

// attention_step.cc; out is fp32.
struct AttentionStepArgs {
  Value q, k, v, out;
  int64_t heads;
  float scale;
  KvCache* cache;
  int64_t cache_index;
  Isa isa;
  bool stored = false;  // k and v are in the cache already, and not read
};
Result<std::unique_ptr<Step>> make_attention_step(const AttentionStepArgs& args);
// gathered_attention_step.cc: the same over the positions that an index chose. The cache is latent.
Result<std::unique_ptr<Step>> make_gathered_attention_step(const AttentionStepArgs& args,
                                                           const Value& chosen);

// index_step.cc. Selections are rows of `top` int32 in the value's bytes.
struct IndexStepArgs {
  Value q, k, w, out;
  int64_t heads, rate, top;
  float scale;
  KvCache* cache;
  int64_t cache_index;
  Isa isa;
};
Result<std::unique_ptr<Step>> make_index_step(const IndexStepArgs& args);

// latent_attention_step.cc; out is fp32. Key and value are stacks with a matrix for each head.
struct LatentShape {
  // Columns: of the latent, of the rotated key, of a query head besides, of a head's value.
  int64_t heads, latent, rotated, plain, value;
  Activation inner;
};
// Its room, for `rows` tokens, from `base` on; with base null only `bytes` means something.
struct LatentWork {
  float *q, *sums;    // [T, heads * (latent + rotated)] and later the values; [T, heads * latent]
  std::byte* inputs;  // of each head's matrix
  uint64_t bytes;
};
LatentWork place_latent_work(const LatentShape& shape, int64_t rows, std::byte* base);
struct LatentAttentionStepArgs {
  Value q, c, p, out;
  std::optional<Value> chosen;  // the positions to attend to; absent: all
  BoundLinear key, value;
  std::optional<BoundLinear> key_rows;  // every head's key matrix transposed: there is an expanded form
  int64_t heads, max_rows;
  float scale;
  Form inner_form;
  std::byte* work;  // place_latent_work().bytes
  KvCache* cache;
  int64_t cache_index;
  Isa isa;
};
Result<std::unique_ptr<Step>> make_latent_attention_step(LatentAttentionStepArgs args);

// route_step.cc. Routes are rows of Route in the value's bytes: the k chosen, then those of every row.
struct RouteStepArgs {
  Value scores, out;
  int64_t k, groups, kept;
  bool normalise, rank_by_two;
  float scale;
  std::string_view score;   // softmax, sigmoid, sqrtsoftplus
  std::vector<float> bias;  // of the choice; or empty
  Isa isa;
};
std::unique_ptr<Step> make_route_step(RouteStepArgs args);

// experts_step.cc
struct ExpertsShape {
  int64_t k, experts, hidden, inner, out;  // experts of a token and in all; columns
  Activation x_form, inner_form;
};
// Its room, for `rows` tokens, from `base` on; with base null only `bytes` means something.
struct ExpertsWork {
  float *gate, *up, *down;  // [pairs, inner], [pairs, inner], [pairs, out]; those of one expert together
  uint64_t bytes;
};
ExpertsWork place_experts_work(const ExpertsShape& shape, int64_t rows, std::byte* base);
struct ExpertsStepArgs {
  Value x, routes, out;
  ExpertsShape shape;
  int64_t max_rows;
  std::byte* work;             // place_experts_work().bytes
  BoundLinear gate, up, down;  // weight.data is member 0
  float limit;                 // of gate and up; 0: none
  bool early;                  // the route's weight multiplies before down
  bool accumulate;             // out = out + the sum
  Isa isa;
};
std::unique_ptr<Step> make_experts_step(ExpertsStepArgs args);

// Lays out what a step needs only while it runs, in pieces of whole cache lines.
class WorkPlacer {
 public:
  explicit WorkPlacer(std::byte* base) : base_(base) {}
  std::byte* take(uint64_t bytes) {
    std::byte* here = base_ ? base_ + used_ : nullptr;
    used_ += (bytes + 63) / 64 * 64;
    return here;
  }
  template <typename T>
  T* take_array(int64_t n) {
    return reinterpret_cast<T*>(take(static_cast<uint64_t>(n) * sizeof(T)));
  }
  uint64_t used() const { return used_; }

 private:
  std::byte* base_;
  uint64_t used_ = 0;
};

// How values are shared out: a plain row loop.
template <typename F>
void for_rows(const Run& run, const ValueType& type, int worker, F f) {
  const Slice slice = slice_of(run.rows(type), worker, run.workers);
  for (int64_t r = slice.begin; r < slice.end; ++r) f(r);
}

// The worker's own tokens: f(sequence, row, position).
template <typename F>
void for_positions(const Run& run, int worker, F f) {
  const Slice mine = slice_of(run.tokens, worker, run.workers);
  for (const SequenceRows& s : run.sequences)
    for (int64_t r = std::max(mine.begin, s.row_begin); r < std::min(mine.end, s.row_begin + s.count); ++r)
      f(s, r, s.first_position + r - s.row_begin);
}

}  // namespace fettle
