// From graph to steps: which values share storage, which operations work in place, which kernels run.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/huge_buffer.h"
#include "runtime/executor.h"
#include "runtime/step.h"
#include "runtime/stream_steps.h"

namespace fettle {

// Where a node's value lives: a storage, and the first column of it for views.
struct Placement {
  int storage = -1;
  int64_t first_column = 0;
  int64_t ld = 0;  // of fp32 values
};

struct StoragePlan {
  std::vector<Placement> values;  // by node
  std::vector<Placement>
      plain;              // by node: fp32 scratch of nodes that need one beside their value; storage -1: none
  std::vector<int> work;  // by node: the storage of what it needs only while it runs; -1: nothing
  std::vector<uint64_t> offsets;  // by storage, into the arena
  std::vector<bool> fused_add;  // by node: this linear or experts node adds into its only reader's (an add's)
                                // other operand, in place
  uint64_t arena_bytes = 0;
};
LatentShape latent_shape(const Graph& graph, const Node& node);
ExpertsShape experts_shape(const Graph& graph, const Node& node);
GroupedLinearShape grouped_linear_shape(const Graph& graph, const Node& node);
struct StorageOptions {
  int64_t max_tokens, max_logit_rows;
  ValueId kept = -1;  // readable after the last node, as the last value is
};
StoragePlan plan_storage(const Graph& graph, const StorageOptions& options);

struct CompiledStep {
  std::unique_ptr<Step> step;
  ValueId produces;     // the node whose value is complete after it
  bool barrier = true;  // after it
};

// A stretch of nodes that can be run by itself once what it reads is in the arena: what comes before the
// first layer, each layer, what comes after the last.
struct Part {
  ValueId begin, end;
};
std::vector<Part> split_parts(const Graph& graph);

// What all parts share: where values live.
struct Frame {
  int64_t first_cache = 0;  // of the graph's caches among those of the KvCache
  StoragePlan storage;
  HugeBuffer arena;
  std::vector<Value> values;  // by node
};
struct FrameOptions {
  bool keeps_state = false;  // the state is read after a run
  int64_t first_cache = 0;
};
Result<Frame> make_frame(const Graph& graph, const ExecutorOptions& options, const FrameOptions& frames);

// The steps of one part, bound to its weights, which live as long as the steps do.
struct Program {
  std::vector<CompiledStep> steps;
  std::map<std::string, uint64_t> weight_bytes;  // of each weight it reads, packed
  int64_t scratch_floats = 0;
};
Result<Program> compile(const Model& model, const Part& part, const Frame& frame, KvCache& cache,
                        const ExecutorOptions& options);

}  // namespace fettle
