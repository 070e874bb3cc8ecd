#include "fit/open_model.h"

#include <algorithm>
#include <chrono>

#include "base/file.h"
#include "weights/evaluate.h"

namespace fettle {

namespace {

Result<Model> checkpoint_model(OpenedModel* opened, const OpenOptions& options) {
  TRY(BuiltGraph built, build_graph(*opened->checkpoint));
  if (!opened->checkpoint->has_weights())
    return bad_input("{}: holds a configuration but no weights; add the .safetensors files", opened->path);
  Graph graph = std::move(built.graph);
  if (!options.exact) {
    TRY(graph, run_passes(graph, options.passes, nullptr));
  }
  opened->graph = std::make_unique<Graph>(std::move(graph));
  opened->pool = std::make_unique<ThreadPool>(options.threads);
  return Model{
      *opened->graph, Plan{},
      std::make_shared<TransientStore>(*opened->graph, *opened->checkpoint, options.exact, *opened->pool)};
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

Result<OpenedModel> open_model(const std::string& path, const OpenOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  OpenedModel opened;
  opened.path = path;
  Model model;
  if (is_artifact(path)) {
    if (options.exact)
      return make_error(Code::kUsage, "--exact runs a source checkpoint; '{}' is an artifact", path);
    TRY(Artifact artifact, open_artifact(path));
    opened.artifact = std::make_unique<Artifact>(std::move(artifact));
    TRY(auto weights,
        load_weights(*opened.artifact,
                     options.threads > 0 ? options.threads : ThreadPool::available_processors()));
    model = {opened.artifact->graph, opened.artifact->plan, std::move(weights)};
    opened.text_files = opened.artifact->text_files;
  } else {
    TRY(Checkpoint checkpoint, Checkpoint::open(path));
    opened.checkpoint = std::make_unique<Checkpoint>(std::move(checkpoint));
    TRY(model, checkpoint_model(&opened, options));
    TRY(opened.text_files, opened.checkpoint->text_files());
  }
  const int64_t cache =
      options.cache_tokens > 0 ? options.cache_tokens : std::min<int64_t>(model.graph.context, 8192);
  TRY(opened.executor, Executor::create(std::move(model), {.threads = options.threads,
                                                           .isa = options.isa,
                                                           .max_tokens = options.max_tokens,
                                                           .max_logit_rows = options.max_logit_rows,
                                                           .cache_tokens = cache}));
  opened.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return opened;
}

}  // namespace fettle
