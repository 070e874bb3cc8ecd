#include <algorithm>

#include "graph/text.h"
#include "passes/pass.h"

namespace fettle {

Graph expand_latent(const Graph&, const PassOptions&, PassNotes*);
Graph fold(const Graph&, const PassOptions&, PassNotes*);
Graph choose_schemes(const Graph&, const PassOptions&, PassNotes*);
Graph merge_shared_experts(const Graph&, const PassOptions&, PassNotes*);
Graph merge_linears(const Graph&, const PassOptions&, PassNotes*);
Graph fuse_rounding(const Graph&, const PassOptions&, PassNotes*);
Graph choose_cache(const Graph&, const PassOptions&, PassNotes*);

namespace {

constexpr Pass kPasses[] = {
    {"expand-latent", "latent attention can make keys of latents, for long prompts", expand_latent},
    {"fold", "equal weights become one, views of views one view, expressions that undo each other vanish",
     fold},
    {"choose-schemes", "weights take the plan's schemes, inputs of linears the matching form",
     choose_schemes},
    {"merge-shared-experts", "an MLP that every token uses becomes one more of its experts",
     merge_shared_experts},
    {"merge-linears", "linears that read the same value become one with several segments", merge_linears},
    {"fuse-rounding", "norm, gate and attention write the rounded form themselves", fuse_rounding},
    {"choose-cache", "the element type of the KV cache", choose_cache},
};

}  // namespace

std::span<const Pass> all_passes() { return kPasses; }

Result<Graph> run_passes(const Graph& graph, const PassOptions& options, PassNotes* notes) {
  for (const std::string& name : options.disabled)
    if (std::none_of(std::begin(kPasses), std::end(kPasses), [&](const Pass& p) { return p.name == name; })) {
      std::string known;
      for (const Pass& p : kPasses) known += (known.empty() ? "" : ", ") + std::string(p.name);
      return make_error(Code::kUsage, "there is no pass '{}'; there are: {}", name, known);
    }
  Graph current = graph;
  for (const Pass& pass : kPasses) {
    if (options.disabled.count(std::string(pass.name))) continue;
    current = pass.run(current, options, notes);
    auto verified = verify_graph(current);
    if (!verified.ok())
      return make_error(Code::kInternal, "after pass {}: {}", pass.name, verified.error().message());
    if (options.after) options.after(pass.name, current);
  }
  return current;
}

Result<AdaptedGraphs> adapt_graphs(const Graph& graph, const std::optional<Graph>& draft,
                                   const PassOptions& options, PassNotes* notes) {
  if (!draft) {
    TRY(Graph alone, run_passes(graph, options, notes));
    return AdaptedGraphs{std::move(alone), std::nullopt};
  }
  // Each is told the schemes of its own weights; the main one those of nobody's too, to say so.
  const WeightIndex in_graph = index_weights(graph), in_draft = index_weights(*draft);
  PassOptions for_graph = options, for_draft = options;
  std::erase_if(for_graph.schemes,
                [&](const auto& s) { return in_graph.count(s.first) == 0 && in_draft.count(s.first) != 0; });
  std::erase_if(for_draft.schemes, [&](const auto& s) { return in_draft.count(s.first) == 0; });
  AdaptedGraphs adapted;
  TRY(adapted.graph, run_passes(graph, for_graph, notes));
  TRY(adapted.draft, run_passes(*draft, for_draft, notes));
  const Status fits = verify_draft(adapted.graph, *adapted.draft);
  if (!fits.ok()) return make_error(Code::kInternal, "after the passes: {}", fits.error().message());
  return adapted;
}

}  // namespace fettle
