// The inside of compile(): from the nodes of one part to steps bound to their weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/compile.h"

namespace fettle {

// A node's place in the arena.
Value place_value(const StoragePlan& storage, const Placement& placement, const ValueType& type,
                  const HugeBuffer& arena);

class Compiler {
 public:
  Compiler(const Model& model, const Frame& frame, KvCache& cache, const ExecutorOptions& options)
      : graph_(model.graph),
        plan_(model.plan),
        store_(*model.weights),
        frame_(frame),
        cache_(cache),
        options_(options),
        uses_(count_uses(graph_)) {}
  Result<Program> run(const Part& part);

 private:
  const Value& in(const Node& node, int i) const { return frame_.values[node.inputs[i]]; }
  void emit(std::unique_ptr<Step> step, ValueId produces) {
    program_.steps.push_back({std::move(step), produces});
  }
  Result<StoredWeight> fetch(const std::string& name);
  Result<std::vector<float>> fetch_vector(const std::string& name);
  // All numbers of a matrix.
  Result<std::vector<float>> fetch_numbers(const std::string& name);
  // The plan's kernels where they fit this machine, then the best there is for every number of rows.
  Result<BoundLinear> bind(const WeightRef& ref, Form form);
  // Linear kernels read fp32 rows without gaps.
  Result<Value> contiguous(const Node& node, int i);
  int64_t cache_index(const Node& node, std::string_view role = "kv") const {
    return frame_.first_cache + (graph_.find_cache(node.layer, role) - graph_.caches.data());
  }
  // A step that computes in fp32, and the rounding of what it hands over, if that is not.
  void emit_rounded(std::unique_ptr<Step> step, ValueId id);
  // Where a node computes in fp32 what it hands over rounded.
  Value plain_value(ValueId id) const;
  std::byte* work(ValueId id) const {
    return frame_.arena.data() + frame_.storage.offsets[frame_.storage.work[id]];
  }

  Status compile_node(ValueId id);
  // The step just before `reader`, taken out of the program if the reader can compute its rows itself: they
  // are rounded, so nobody observes them, and nobody else reads them.
  std::unique_ptr<RowStep> take_producer(ValueId reader);
  Status compile_rope(const Node& node, ValueId id);
  Status compile_linear(const Node& node, ValueId id);
  Status compile_route(const Node& node, ValueId id);
  Status compile_hyper_mix(const Node& node, ValueId id);
  Status compile_grouped_linear(const Node& node, ValueId id);
  Status compile_token_route(const Node& node, ValueId id);
  Status compile_experts(const Node& node, ValueId id);

  // compile_attention.cc
  Status compile_compress(const Node& node, ValueId id);
  Status compile_window_attention(const Node& node, ValueId id);
  Status compile_latent_attention(const Node& node, ValueId id);
  Status compile_attention(const Node& node, ValueId id);
  Status compile_index(const Node& node, ValueId id);

  const Graph& graph_;
  const Plan& plan_;
  WeightStore& store_;
  const Frame& frame_;
  KvCache& cache_;
  const ExecutorOptions& options_;
  std::vector<int> uses_;
  Program program_;
};

}  // namespace fettle
