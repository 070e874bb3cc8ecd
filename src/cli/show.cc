#include "base/file.h"
#include "cli/verb.h"
#include "fit/open_model.h"
#include "graph/text.h"
#include "quality/certificate.h"

namespace fettle {

namespace {

struct ShowArguments {
  std::string stage, model, dump_after, scheme;
  std::vector<std::string> disabled;
  bool draft = false;
  Numerics numerics;
};

// The graph asked for: the main one, or the one that drafts tokens.
struct Source {
  Checkpoint checkpoint;
  Graph graph;
};
Result<Source> open_source(const ShowArguments& args) {
  TRY(Checkpoint checkpoint, Checkpoint::open(args.model));
  TRY(BuiltGraph built, build_graph(checkpoint, {.simulate_rounding = args.numerics.simulate_rounding}));
  if (args.draft && !built.draft)
    return make_error(Code::kUsage, "'{}' has no layer that drafts tokens", args.model);
  return Source{std::move(checkpoint), args.draft ? std::move(*built.draft) : std::move(built.graph)};
}

// The graph after the passes, or after one of them; or how its weights are laid out.
Status show_adapted(const ShowArguments& args) {
  TRY(const Source opened, open_source(args));
  const Graph& source = opened.graph;
  PassOptions options;
  TRY(const std::string activations,
      settle_activations(opened.checkpoint, source, args.numerics.activations));
  options.small_float_inputs = activation_form(activations);
  options.disabled.insert(args.disabled.begin(), args.disabled.end());
  if (!args.scheme.empty())
    for (const WeightGroup& group : weight_groups(source))
      for (const std::string& weight : group.weights) options.schemes[weight] = args.scheme;
  std::optional<Graph> dumped;
  options.after = [&](std::string_view pass, const Graph& graph) {
    if (pass == args.dump_after) dumped = graph;
  };
  PassNotes notes;
  TRY(const Graph adapted, run_passes(source, options, &notes));
  if (!args.dump_after.empty() && !dumped)
    return make_error(Code::kUsage, "pass '{}' did not run; see: fettle show passes", args.dump_after);
  for (const std::string& note : notes) print_text("# " + note + "\n");
  print_text(args.stage == "layout" ? layout_text(adapted.weights) : print_graph(dumped ? *dumped : adapted));
  return {};
}

Status show_layout(const ShowArguments& args) {
  if (!is_artifact(args.model)) return show_adapted(args);
  TRY(const Artifact artifact, open_artifact(args.model));
  print_text(layout_text(artifact.graph.weights));
  return {};
}

Status show_file(const ShowArguments& args, const std::string& name) {
  if (!is_artifact(args.model)) return make_error(Code::kUsage, "'{}' is not an artifact", args.model);
  TRY(const std::string text, read_file(join_path(args.model, name)));
  print_text(text);
  return {};
}

Status run_show(const ShowArguments& args, const GlobalOptions& global) {
  if (args.stage == "passes") {
    for (const Pass& pass : all_passes()) print_text(fmt::format("{:<16} {}\n", pass.name, pass.what));
    return {};
  }
  if (args.model.empty()) return make_error(Code::kUsage, "show {} needs a model", args.stage);
  const std::string stored = args.draft ? "draft.fir" : "graph.fir";
  if (args.stage == "graph" && is_artifact(args.model)) return show_file(args, stored);
  if (args.stage == "graph") {
    TRY(const Source opened, open_source(args));
    const Graph& graph = opened.graph;
    print_text(print_graph(graph));
    return {};
  }
  if (args.stage == "adapted") return is_artifact(args.model) ? show_file(args, stored) : show_adapted(args);
  if (args.stage == "layout") return show_layout(args);
  if (args.stage == "plan") return show_file(args, "plan.json");
  if (args.stage == "artifact") {
    TRY(const Artifact artifact, open_artifact(args.model));  // what is shown can be used
    print_json(artifact.manifest);
    return {};
  }
  if (global.json) return show_file(args, "certificate.json");
  const std::string path = join_path(args.model, "certificate.json");
  TRY(const Json json, read_json_file(path));
  TRY(const Certificate certificate, certificate_from_json(json, path));
  print_text(certificate_table(certificate));
  return {};
}

}  // namespace

void declare_show(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto args = std::make_shared<ShowArguments>();
  app.add_option("stage", args->stage, "graph, adapted, layout, passes, plan, artifact or certificate")
      ->required()
      ->check(CLI::IsMember({"graph", "adapted", "layout", "passes", "plan", "artifact", "certificate"}));
  app.add_option("model", args->model, "artifact, checkpoint directory or GGUF file");
  app.add_option("--disable-pass", args->disabled, "leave out a pass (adapted, layout)");
  app.add_option("--dump-after", args->dump_after, "the graph after this pass (adapted)");
  declare_numerics(app, &args->numerics);
  app.add_option("--scheme", args->scheme, "one scheme for all matrices (adapted, layout)");
  app.add_flag("--draft", args->draft,
               "the graph that drafts tokens, in place of the model's (graph, adapted)");
  *action = [args, &global] { return run_show(*args, global); };
}

}  // namespace fettle
