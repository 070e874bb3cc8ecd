#include "fit/open_model.h"

#include <algorithm>
#include <chrono>

#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "weights/evaluate.h"

namespace fettle {

namespace {

// What an executor needs besides options: the model, and whether its weights come layer by layer.
struct Opening {
  Model model;
  bool stream = false;
};

Status settle_speculation(OpenedModel* opened, const Speculation& speculation, bool has_draft) {
  if (speculation.kind == DraftKind::kMtp && !has_draft)
    return make_error(Code::kUsage, "'{}' has no layer that drafts tokens; use ngram or none", opened->path);
  opened->speculation = speculation;
  return {};
}

Result<Opening> open_checkpoint(OpenedModel* opened, const OpenOptions& options) {
  TRY(Checkpoint checkpoint, Checkpoint::open(opened->path));
  opened->checkpoint = std::make_unique<Checkpoint>(std::move(checkpoint));
  TRY(opened->text_files, opened->checkpoint->text_files());
  const Numerics& numerics = options.numerics;
  TRY(BuiltGraph built, build_graph(*opened->checkpoint, {.simulate_rounding = numerics.simulate_rounding}));
  if (!opened->checkpoint->has_weights())
    return bad_input("{}: holds a configuration but no weights; add the .safetensors files", opened->path);
  if (!options.exact) warn_of_unexpected(built, *opened->checkpoint);
  TRY_STATUS(
      settle_speculation(opened, options.speculation.value_or(Speculation{}), built.draft.has_value()));
  if (opened->speculation.kind != DraftKind::kMtp) built.draft.reset();
  Plan plan;
  AdaptedGraphs graphs{std::move(built.graph), std::move(built.draft)};
  PassOptions passes = options.passes;
  TRY(const std::string activations,
      settle_activations(*opened->checkpoint, graphs.graph, numerics.activations));
  passes.small_float_inputs = activation_form(activations);
  if (!options.exact) passes.expand_grid = plan.expand_grid = choose_expand_grid(graphs.graph);
  // Exact but for the rounding that was asked for, if any.
  if (options.exact) {
    passes.exact = true;
    for (const Pass& pass : all_passes())
      if (pass.name != "choose-schemes") passes.disabled.insert(std::string(pass.name));
  }
  if (!options.exact || passes.small_float_inputs) {
    TRY(graphs, adapt_graphs(graphs.graph, graphs.draft, passes, nullptr));
  }
  opened->graphs = std::make_unique<AdaptedGraphs>(std::move(graphs));
  opened->pool = std::make_unique<ThreadPool>(options.threads);
  const auto& [graph, draft] = *opened->graphs;
  const uint64_t bytes = stored_bytes(all_weights(graph, draft), options.exact),
                 allowed = weights_allowed(graph, options.memory);
  const bool stream = bytes > allowed;
  opened->held_bytes = stream ? 0 : bytes;
  auto weights = std::make_shared<TransientStore>(graph, *opened->checkpoint, options.exact, *opened->pool,
                                                  WeightMemory(allowed, options.memory.spill_directory));
  if (draft) weights->add(*draft);
  return Opening{{graph, std::move(plan), std::move(weights), draft}, stream};
}

Result<Opening> open_packed(OpenedModel* opened, const OpenOptions& options) {
  if (options.numerics.activations != "float" || options.numerics.simulate_rounding)
    return make_error(Code::kUsage, "'{}' is an artifact: its roundings were chosen when it was made",
                      opened->path);
  if (options.exact)
    return make_error(Code::kUsage, "--exact runs a source checkpoint; '{}' is an artifact", opened->path);
  TRY(Artifact artifact, open_artifact(opened->path));
  opened->artifact = std::make_unique<Artifact>(std::move(artifact));
  opened->text_files = opened->artifact->text_files;
  const Graph& graph = opened->artifact->graph;
  const std::optional<Graph>& draft = opened->artifact->draft;
  TRY_STATUS(settle_speculation(opened, options.speculation.value_or(opened->artifact->plan.speculation),
                                draft.has_value()));
  const bool drafts = opened->speculation.kind == DraftKind::kMtp;
  const uint64_t allowed = weights_allowed(graph, options.memory),
                 bytes = stored_bytes(all_weights(graph, draft), false);
  const int threads = options.threads > 0 ? options.threads : ThreadPool::available_processors();
  TRY(auto weights, load_weights(opened->path, opened->artifact->entries, threads, allowed));
  opened->held_bytes = bytes > allowed ? 0 : bytes;
  return Opening{{graph, opened->artifact->plan, std::move(weights), drafts ? draft : std::nullopt}, false};
}

}  // namespace

Result<Isa> choose_isa(const std::string& name) {
  const Isa best = detect_isa();
  if (name.empty() || name == "auto") return best;
  TRY(const Isa isa, parse_isa(name));
  if (isa > best)
    return unsupported("this processor offers {}; {} was asked for", isa_name(best), isa_name(isa));
  return isa;
}

Result<std::map<std::string, std::string>> open_text_files(const std::string& path) {
  if (is_artifact(path)) {
    std::map<std::string, std::string> files;
    TRY(const auto names, list_directory(join_path(path, "tokenizer")));
    for (const std::string& name : names) {
      TRY(files[name], read_file(join_path(join_path(path, "tokenizer"), name)));
    }
    return files;
  }
  TRY(const Checkpoint checkpoint, Checkpoint::open(path));
  return checkpoint.text_files();
}

Result<std::string> source_digest(const Checkpoint& checkpoint) {
  uint64_t total = 0;
  for (const std::string& file : checkpoint.files()) {
    TRY(const uint64_t size, file_size(file));
    total += size;
  }
  Progress progress("hashing the source", total, ProgressUnit::kBytes);
  std::vector<std::string> files = checkpoint.files();
  std::sort(files.begin(), files.end());
  std::string lines;
  for (const std::string& file : files) {
    TRY(const std::string digest, sha256_file(file));
    TRY(const uint64_t size, file_size(file));
    lines += fmt::format("{} {} {}\n", base_name(file), size, digest);
    progress.add(size);
  }
  return sha256_hex(lines);
}

Result<OpenedModel> open_model(const std::string& path, const OpenOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  OpenedModel opened;
  opened.path = path;
  TRY(Opening opening, is_artifact(path) ? open_packed(&opened, options) : open_checkpoint(&opened, options));
  const int64_t cache =
      options.cache_tokens > 0 ? options.cache_tokens : std::min<int64_t>(opening.model.graph.context, 8192);
  TRY(opened.executor, Executor::create(std::move(opening.model), {.threads = options.threads,
                                                                   .isa = options.isa,
                                                                   .max_tokens = options.max_tokens,
                                                                   .max_logit_rows = options.max_logit_rows,
                                                                   .cache_tokens = cache,
                                                                   .stream = opening.stream}));
  opened.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return opened;
}

}  // namespace fettle
