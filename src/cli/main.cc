#include <cstdio>

#include "base/log.h"
#include "base/progress.h"
#include "cli/verb.h"

namespace fettle {

namespace {

constexpr Verb kVerbs[] = {
    {"pull", "fetch a model (hf:, modelscope:, https:, pip:, a path); resumable, checked", declare_pull},
    {"inspect", "what a model is: architecture, sizes, dtypes, tokenizer, template, oddities",
     declare_inspect},
    {"targets", "the accelerators known, and the evidence for each figure", declare_targets},
    {"fit", "adapt a model to an accelerator: graph, passes, quantise, pack, verify, certificate, report",
     declare_fit},
    {"verify", "redo the certificate of an artifact, or compare two models", declare_verify},
    {"run", "one prompt, one answer", declare_run},
    {"chat", "talk to a model", declare_chat},
    {"bench", "prefill, decode, batch and depth speeds of an artifact", declare_bench},
    {"models", "the models pulled onto this machine", declare_models},
    {"show", "print a stage: graph, adapted, layout, passes, plan, artifact, certificate", declare_show},
    {"tokenize", "text to token ids", declare_tokenize},
    {"template", "messages to the rendered prompt", declare_template},
    {"logits", "token ids to logits, as a safetensors file", declare_logits},
};

int main_checked(int argc, char** argv) {
  CLI::App app(
      "fettle takes a large language model through its last stage before release: adapt, prove, run.\n");
  GlobalOptions global;
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", FETTLE_VERSION);
  app.add_flag("--json", global.json, "one JSON value on standard output");
  app.add_flag("--quiet", global.quiet, "no progress");
  app.add_flag("--verbose", global.verbose, "say what is done and why");
  app.add_option("--threads", global.threads, "threads to use (default: all processors)")
      ->check(CLI::Range(0, 1024));
  app.add_option("--isa", global.isa,
                 "use at most this instruction set: scalar, avx2, avx512, avx512-vnni, avx512-bf16");
  std::vector<Action> actions(std::size(kVerbs));
  std::vector<CLI::App*> apps;
  for (size_t i = 0; i < std::size(kVerbs); ++i) {
    apps.push_back(app.add_subcommand(kVerbs[i].name, kVerbs[i].what));
    kVerbs[i].declare(*apps.back(), global, &actions[i]);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(Code::kUsage);
  }
  if (global.verbose) set_log_level(LogLevel::kInfo);
  if (global.quiet) Progress::set_mode(ProgressMode::kQuiet);
  for (size_t i = 0; i < apps.size(); ++i) {
    if (!apps[i]->parsed()) continue;
    const Status status = actions[i]();
    if (status.ok()) return 0;
    std::fprintf(stderr, "fettle %s: %s\n", kVerbs[i].name, status.error().message().c_str());
    return static_cast<int>(status.error().code());
  }
  return static_cast<int>(Code::kUsage);
}

}  // namespace

void print_json(const Json& json) { print_text(dump_json(json) + "\n"); }
void print_text(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace fettle

int main(int argc, char** argv) {
  try {
    return fettle::main_checked(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr,
                 "fettle: out of memory; close other programs or use a smaller model, context or batch\n");
    return static_cast<int>(fettle::Code::kResource);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "fettle: %s\nThis is a bug in fettle; please report it.\n", e.what());
    return static_cast<int>(fettle::Code::kInternal);
  }
}
