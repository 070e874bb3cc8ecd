// Architectures: from a checkpoint's configuration and tensor names to a graph. One file each, one line in
// list.inc.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/config.h"
#include "graph/graph.h"

namespace fettle {

struct BuiltGraph {
  Graph graph;
  std::vector<std::string> unused_tensors;  // stored but not read, each with the reason
  std::vector<std::string> unexpected{};    // names of those for which there is no good reason
  std::vector<std::string>
      unread_fields{};  // of the configuration: may ask for what this fettle does not know
  // Guesses the token after the next: reads the state that `graph` leaves of a token and the token after it.
  // Weights that both graphs read have one name.
  std::optional<Graph> draft{};
};
// Says so, as such a model may be another than its configuration claims.
void warn_of_unexpected(const BuiltGraph& built, const Checkpoint& checkpoint);

struct BuildOptions {
  // Latents and keys of an index are rounded as the makers' kernels round them, where a model was trained to
  // bear that.
  bool simulate_rounding = false;
};

// Builds and verifies the graph of a checkpoint. Every stored tensor is read exactly once or listed with the
// reason. Unknown architecture: kUnsupported, naming it and those known.
Result<BuiltGraph> build_graph(const Checkpoint& checkpoint, const BuildOptions& options = {});

std::vector<std::string> known_architectures();

}  // namespace fettle
