// A verb is one file: it declares its options, and returns what it did. No logic lives here; verbs parse,
// call and print.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "plan/plan.h"

namespace fettle {

// Options that stand before or after any verb.
struct GlobalOptions {
  bool json = false, quiet = false, verbose = false;
  int threads = 0;
  std::string isa = "auto";
};

// What the chosen verb will do once parsing is over. Prints to standard output itself.
using Action = std::function<Status()>;

struct Verb {
  const char* name;
  const char* what;  // one line of --help
  // Adds options to `app`; sets *action, which runs if the verb was chosen.
  void (*declare)(CLI::App& app, const GlobalOptions& global, Action* action);
};

#define VERB(name) void declare_##name(CLI::App& app, const GlobalOptions& global, Action* action);
#include "cli/verbs.inc"
#undef VERB

// --memory-limit SIZE of fit and verify.
void declare_memory_limit(CLI::App& app, uint64_t* limit);
// --activations and --simulate-rounding.
struct Numerics;
void declare_numerics(CLI::App& app, Numerics* numerics);
// --no-cache of fit and verify, and where they remember what sources did.
void declare_no_cache(CLI::App& app, bool* no_cache);
std::string source_cache_directory();

// --speculate none|mtp|ngram[:K].
void declare_speculation(CLI::App& app, std::optional<Speculation>* speculation, const std::string& what);

void print_json(const Json& json);
void print_text(const std::string& text);

}  // namespace fettle
