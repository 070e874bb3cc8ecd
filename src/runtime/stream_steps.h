// Steps of models with several residual streams and compressed attention; see step.h.
#pragma once

#include "graph/simulate.h"
#include "runtime/step.h"

namespace fettle {

// stream_steps.cc
std::unique_ptr<Step> make_repeat_step(const Value& x, const Value& out);
std::unique_ptr<Step> make_simulate_step(const Value& x, const Value& out, const Node& node);
struct HyperMixStepArgs {
  Value x, raw, out;
  std::vector<float> base, scale;
  int64_t streams, iterations;
  float eps, norm_eps;
  Isa isa;
};
std::unique_ptr<Step> make_hyper_mix_step(HyperMixStepArgs args);
std::unique_ptr<Step> make_hyper_read_step(const Value& x, const Value& mix, int64_t streams,
                                           const Value& out, Isa isa);
struct HyperWriteStepArgs {
  Value x, y, mix, out;
  int64_t streams;
  Isa isa;
};
std::unique_ptr<Step> make_hyper_write_step(const HyperWriteStepArgs& args);

// compress_step.cc
struct CompressStepArgs {
  Value a, gate, out;
  std::vector<float> shift, gain;  // [rate, cols], [dim]
  int64_t rate, at;                // first rotated lane
  float eps;
  const Rope& rope;
  KvCache* cache;
  int64_t cache_index;  // of the rows it still needs
  Isa isa;
};
std::unique_ptr<Step> make_compress_step(CompressStepArgs args);

// window_attention_step.cc
struct WindowAttentionStepArgs {
  Value q, kv, out;
  std::optional<Value> entries, chosen;
  std::vector<float> sinks;  // of every head, or empty
  int64_t heads, window, rate;
  float scale;
  KvCache* cache;
  int64_t cache_index, entry_cache_index;
  Isa isa;
};
Result<std::unique_ptr<Step>> make_window_attention_step(WindowAttentionStepArgs args);

// grouped_linear_step.cc. Its room: work_bytes for `rows` rows.
struct GroupedLinearShape {
  int64_t groups, cols;  // columns of one group's input
  Activation inner;
};
uint64_t grouped_linear_work_bytes(const GroupedLinearShape& shape, int64_t rows);
struct GroupedLinearStepArgs {
  Value x, out;
  BoundLinear linear;  // weight.data is member 0
  int64_t groups;
  Form inner_form;
  std::byte* work;
  Isa isa;
};
std::unique_ptr<Step> make_grouped_linear_step(GroupedLinearStepArgs args);

// route_step.cc: the experts that a table names for each token.
struct TokenRouteStepArgs {
  Value scores, out;
  std::vector<int32_t> table;  // [vocab, k]
  int64_t k;
  bool normalise;
  float scale;
  std::string_view score;
  Isa isa;
};
std::unique_ptr<Step> make_token_route_step(TokenRouteStepArgs args);

}  // namespace fettle
