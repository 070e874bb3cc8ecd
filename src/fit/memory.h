// What fit and verify promise about memory: the process's own (anonymous) memory stays below 1 GiB + 4 times
// the largest single matrix in fp32, whatever the model's size. Beyond that, checkpoints are streamed layer
// by layer, artifacts are mapped, and what must be kept goes to unnamed files.
#pragma once

#include <cstdint>
#include <string>

#include "graph/graph.h"

namespace fettle {

uint64_t memory_promise(const Graph& graph);

struct MemoryBound {
  uint64_t limit = UINT64_MAX;  // of all anonymous memory; 0: the promise
  uint64_t taken = 0;           // by weights opened before
  double share = 1;             // of what is left
  std::string spill_directory;
};

// Bytes of weights that may be held at once.
uint64_t weights_allowed(const Graph& graph, const MemoryBound& bound);

}  // namespace fettle
