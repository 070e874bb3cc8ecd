#include <ctime>

#include "base/file.h"
#include "cli/verb.h"
#include "fit/fit.h"
#include "pull/pull.h"

namespace fettle {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

namespace {

struct FitArguments {
  std::string model, target = "local", out, objective = "latency", budget = "kld=0.05,top1=0.85", scheme,
                     plan, kv = "bf16", text, tasks;
  std::vector<std::string> disabled;
  Numerics numerics;
  bool no_verify = false, no_cache = false, force = false;
  uint64_t memory_limit = 0;
};

Status run_fit(const FitArguments& args, const GlobalOptions& global) {
  FitOptions options;
  options.model = args.model;
  options.target = args.target;
  options.out = args.out;
  while (options.out.size() > 1 && options.out.back() == '/') options.out.pop_back();
  TRY(options.objective, parse_objective(args.objective));
  TRY(options.budget, parse_budget(args.budget));
  if (!args.scheme.empty()) {
    TRY(options.scheme, parse_scheme_choice(args.scheme));
  }
  TRY(options.isa, choose_isa(global.isa));
  options.plan_file = args.plan;
  options.kv_type = args.kv;
  options.disabled_passes = args.disabled;
  options.verify = !args.no_verify;
  options.force = args.force;
  options.threads = global.threads;
  options.memory_limit = args.memory_limit;
  options.cache_directory = default_cache_directory();
  if (!args.no_cache) options.source_cache = source_cache_directory();
  options.certify.text_file = args.text;
  options.certify.tasks_file = args.tasks;
  options.certify.created = utc_now();
  options.certify.made_by = "fettle " FETTLE_VERSION;
  options.numerics = args.numerics;
  TRY(const FitResult result, fit(options));
  if (global.json) {
    Json json = {{"path", result.path}, {"content_digest", result.content_digest}, {"notes", result.notes}};
    if (result.certificate) json["certificate"] = certificate_to_json(*result.certificate);
    print_json(json);
    return {};
  }
  if (result.certificate) print_text(certificate_table(*result.certificate));
  print_text(fmt::format("artifact: {}\n", result.path));
  if (result.certificate) print_text(fmt::format("report:   {}/report.html\n", result.path));
  return {};
}

}  // namespace

void declare_memory_limit(CLI::App& app, uint64_t* limit) {
  app.add_option(
         "--memory-limit", *limit,
         "memory of its own to stay within, as 3G (default: 1 GiB + 4 times the largest matrix in fp32)")
      ->transform(CLI::AsSizeValue(false));
}

void declare_numerics(CLI::App& app, Numerics* numerics) {
  app.add_option("--activations", numerics->activations,
                 "inputs of FP8 and FP4 weights: float, or rounded as the makers do: e4m3 (scales as the "
                 "configuration says), e4m3-fp32, e4m3-ue8m0");
  app.add_flag("--simulate-rounding", numerics->simulate_rounding,
               "round latents and index keys as the model was trained to bear");
}

void declare_no_cache(CLI::App& app, bool* no_cache) {
  app.add_flag("--no-cache", *no_cache, "neither use nor keep what the source did in an earlier certificate");
}
std::string source_cache_directory() { return join_path(default_cache_directory(), "source"); }

void declare_fit(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto args = std::make_shared<FitArguments>();
  app.add_option("model", args->model, "checkpoint directory or GGUF file")->required();
  app.add_option("--target", args->target, "accelerator to adapt to (local: this machine)");
  app.add_option("-o,--out", args->out, "artifact directory to make")->required();
  app.add_option("--objective", args->objective, "latency, throughput or memory");
  app.add_option("--budget", args->budget, "what adapting may cost: kld=,p99=,top1=,ppl=");
  app.add_option("--scheme", args->scheme, "one scheme for all matrices: int8, int4, bf16, q8_0, ...");
  app.add_option("--plan", args->plan, "take the decisions of this plan.json");
  app.add_option("--kv", args->kv, "element type of the KV cache: bf16, f32; of latents also int8, fp8");
  app.add_option("--disable-pass", args->disabled, "leave out a pass");
  app.add_option("--text", args->text, "evaluation text, in place of the built-in one");
  app.add_option("--tasks", args->tasks, "task file (JSON lines: task, prompt, answer)");
  declare_numerics(app, &args->numerics);
  declare_memory_limit(app, &args->memory_limit);
  app.add_flag("--no-verify", args->no_verify, "write no certificate; such an artifact is not served");
  declare_no_cache(app, &args->no_cache);
  app.add_flag("--force", args->force, "replace an artifact of the same name");
  *action = [args, &global] { return run_fit(*args, global); };
}

}  // namespace fettle
