#include "pull/pull.h"

#include <cstdlib>

#include "base/progress.h"
#include "cli/verb.h"

namespace fettle {

namespace {

Status run_pull(const std::string& spec, PullOptions options, const GlobalOptions& global) {
  if (const char* endpoint = std::getenv("HF_ENDPOINT")) options.hugging_face_url = endpoint;
  if (const char* token = std::getenv("HF_TOKEN")) options.token = token;
  TRY(const PulledModel pulled, pull(spec, options));
  if (global.json)
    print_json({{"spec", pulled.spec},
                {"path", pulled.path},
                {"bytes", pulled.bytes},
                {"revision", pulled.revision}});
  else
    print_text(pulled.path + "\n");
  return {};
}

}  // namespace

void declare_pull(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto spec = std::make_shared<std::string>();
  auto options = std::make_shared<PullOptions>();
  app.add_option("model", *spec,
                 "hf:ORG/NAME[@REV], modelscope:ORG/NAME[@REV], https://..., pip:NAME[==VERSION], a path")
      ->required();
  app.add_option("--sha256", options->sha256, "expected digest (https: and pip:)");
  app.add_option("--include", options->include, "only files that match these patterns");
  app.add_option("--parallel", options->parallel, "files at once")->check(CLI::Range(1, 64));
  app.add_option("--cache", options->cache_directory, "where to keep models");
  *action = [spec, options, &global] { return run_pull(*spec, *options, global); };
}

void declare_models(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto cache = std::make_shared<std::string>();
  app.add_option("--cache", *cache, "where models are kept");
  *action = [cache, &global]() -> Status {
    TRY(const auto models, cached_models(cache->empty() ? default_cache_directory() : *cache));
    if (global.json) {
      Json list = Json::array();
      for (const PulledModel& m : models)
        list.push_back({{"spec", m.spec}, {"path", m.path}, {"bytes", m.bytes}, {"revision", m.revision}});
      print_json(list);
      return {};
    }
    if (models.empty()) print_text("No models yet; fetch one with: fettle pull hf:ORG/NAME\n");
    for (const PulledModel& m : models)
      print_text(fmt::format("{:<48} {:>10}  {}\n", m.spec, format_bytes(m.bytes), m.path));
    return {};
  };
}

}  // namespace fettle
