#include "base/file.h"
#include "cli/verb.h"
#include "fit/certify.h"
#include "pull/pull.h"

namespace fettle {

std::string utc_now();

namespace {

struct VerifyArguments {
  std::string model, against, text, tasks, budget;
  int64_t max_tokens = 1024;
  uint64_t memory_limit = 0;
  bool no_cache = false;
};

// The budget of the artifact's own certificate, unless another is given.
Result<Budget> budget_of(const VerifyArguments& args) {
  if (!args.budget.empty()) return parse_budget(args.budget);
  const std::string path = join_path(args.model, "certificate.json");
  if (!path_exists(path)) return Budget{};
  TRY(const Json json, read_json_file(path));
  TRY(const Certificate certificate, certificate_from_json(json, path));
  return certificate.budget;
}

Status run_verify(const VerifyArguments& args, const GlobalOptions& global) {
  TRY(const Isa isa, choose_isa(global.isa));
  std::string against = args.against;
  if (is_artifact(args.model)) {
    TRY(const Artifact artifact, open_artifact(args.model));
    TRY_STATUS(check_hashes(artifact));
    if (against.empty())
      return make_error(
          Code::kUsage,
          "an artifact does not hold its source; name it: --against MODEL (it was made from '{}')",
          artifact.manifest.value("source", std::string("?")));
  }
  if (against.empty()) against = args.model;
  CertifyOptions options;
  options.text_file = args.text;
  options.tasks_file = args.tasks;
  options.max_task_tokens = args.max_tokens;
  TRY(options.budget, budget_of(args));
  options.created = utc_now();
  options.made_by = "fettle " FETTLE_VERSION;
  TRY(const Certificate certificate,
      certify({.source = against,
               .adapted = args.model,
               .threads = global.threads,
               .isa = isa,
               .cache_tokens = 4096,
               .memory_limit = args.memory_limit,
               .spill_directory = join_path(default_cache_directory(), "spill"),
               .cache_directory = args.no_cache ? "" : source_cache_directory()},
              options));
  if (global.json)
    print_json(certificate_to_json(certificate));
  else
    print_text(certificate_table(certificate));
  if (!certificate.passed)
    return make_error(Code::kCheckFailed, "the budget {} is not met", budget_text(options.budget));
  return {};
}

}  // namespace

void declare_verify(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto args = std::make_shared<VerifyArguments>();
  app.add_option("model", args->model, "artifact, checkpoint directory or GGUF file")->required();
  app.add_option("--against", args->against, "the source to compare with, run exactly");
  app.add_option("--text", args->text, "evaluation text, in place of the built-in one");
  app.add_option("--tasks", args->tasks, "task file (JSON lines: task, prompt, answer)");
  app.add_option("--max-tokens", args->max_tokens, "longest answer to a task")->check(CLI::Range(1, 1 << 20));
  app.add_option("--budget", args->budget,
                 "limits that decide: kld=,p99=,top1=,ppl= (default: those of the certificate)");
  declare_memory_limit(app, &args->memory_limit);
  declare_no_cache(app, &args->no_cache);
  *action = [args, &global] { return run_verify(*args, global); };
}

}  // namespace fettle
