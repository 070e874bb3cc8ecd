// Passes: pure rewrites from graph to graph, one file each; pipeline.cc is the ordered list. After every pass
// the graph verifies.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "plan/plan.h"

namespace fettle {

struct PassOptions {
  std::map<std::string, std::string>
      schemes;  // weight -> scheme to encode it to; absent: kept as the source has it
  std::string encode_method = "search";
  std::string kv_type = "bf16";
  int64_t expand_grid = 0;  // of the plan
  // Inputs of weights in e4m3 or e2m1 are rounded to this, as the makers' kernels do; absent: as others are.
  std::optional<Form> small_float_inputs{};
  bool exact = false;  // nothing else is rounded
  std::set<std::string> disabled;
  std::function<void(std::string_view pass, const Graph& graph)> after;  // sees the graph after each pass
};

// What passes have to say besides the graph: choices that could not be honoured, tensors left alone.
using PassNotes = std::vector<std::string>;

struct Pass {
  std::string_view name;
  std::string_view what;  // one line for people
  Graph (*run)(const Graph& graph, const PassOptions& options, PassNotes* notes);
};
std::span<const Pass> all_passes();

// Runs all passes but the disabled ones. Unknown names in `disabled`: kUsage.
Result<Graph> run_passes(const Graph& graph, const PassOptions& options, PassNotes* notes);

// A model's graph and the one that drafts for it, if any, by the same passes.
struct AdaptedGraphs {
  Graph graph;
  std::optional<Graph> draft;
};
Result<AdaptedGraphs> adapt_graphs(const Graph& graph, const std::optional<Graph>& draft,
                                   const PassOptions& options, PassNotes* notes);

// The last stage: layout and reason of adapted weights, and the same for people, one a line.
std::map<std::string, WeightPlan> lay_out(std::span<const Weight> weights);
std::string layout_text(std::span<const Weight> weights);

// The weights whose scheme may be chosen, by the linear that reads them: inputs of one group share one
// activation form and are measured together. Named by their common prefix: "layers.0.q+k+v".
struct WeightGroup {
  std::string name;
  std::vector<std::string> weights;
  int64_t parameters = 0, largest_rows = 0, cols = 0, layer = -1;
  bool carried_blocks = false;  // the source is already coded in blocks: kept unless asked otherwise
};
std::vector<WeightGroup> weight_groups(const Graph& source);
std::string kind_of(const WeightGroup& group);  // "q+k+v": the same in every layer

// Adds to `schemes` what the weights that only the draft reads are coded in, where nothing says: what most
// groups of the same kind are, or, if there are none, most groups of all.
void add_draft_schemes(const Graph& source, const Graph& draft, std::map<std::string, std::string>* schemes);

// Linears whose results choose, mix or accumulate over many tokens: routers, the keys and weights of an
// index, what makes compressed entries, how residual streams mix. They keep the source's scheme and read fp32
// numbers where their code allows: flipped choices cost more than they save.
std::set<ValueId> precise_linears(const Graph& graph);
// The plan's expand_grid where nothing was measured: by counting multiplications. 0: never.
int64_t choose_expand_grid(const Graph& graph);

// How a linear wants its input when its weight has this scheme.
Form input_form(Scheme scheme);

}  // namespace fettle
