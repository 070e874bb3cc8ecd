// The options by which run and chat steer a reply.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/verb.h"
#include "fit/open_model.h"
#include "runtime/generate.h"
#include "text/text.h"

namespace fettle {

struct ReplyOptions {
  SamplingParams sampling;
  int64_t max_tokens = 256, context = 0;
  bool ignore_eos = false;
  std::optional<Speculation> speculation;  // absent: the plan's

  void declare(CLI::App& app) {
    app.add_option("--max-tokens", max_tokens, "longest reply")->check(CLI::Range(1, 1 << 24));
    app.add_option("--temperature", sampling.temperature, "0: always the likeliest token")
        ->check(CLI::Range(0.0, 100.0));
    app.add_option("--top-p", sampling.top_p)->check(CLI::Range(0.0, 1.0));
    app.add_option("--top-k", sampling.top_k)->check(CLI::Range(0, 1 << 24));
    app.add_option("--min-p", sampling.min_p)->check(CLI::Range(0.0, 1.0));
    app.add_option("--repetition-penalty", sampling.repetition_penalty)->check(CLI::Range(0.01, 100.0));
    app.add_option("--frequency-penalty", sampling.frequency_penalty)->check(CLI::Range(-100.0, 100.0));
    app.add_option("--presence-penalty", sampling.presence_penalty)->check(CLI::Range(-100.0, 100.0));
    app.add_option("--seed", sampling.seed, "the same seed gives the same reply anywhere");
    app.add_option("--context", context, "tokens of cache (default: the model's context, at most 8192)")
        ->check(CLI::Range(1, 1 << 24));
    declare_speculation(app, &speculation,
                        "how to decode faster, by tokens drafted ahead (default: the plan's)");
    app.add_flag("--ignore-eos", ignore_eos, "go on after an end token");
  }
  GenerateOptions generate(const OpenedModel& model, const Tokenizer& tokenizer) const {
    return {sampling, max_tokens, 256, ignore_eos ? std::vector<int32_t>{} : tokenizer.end_tokens(),
            model.speculation};
  }
};

}  // namespace fettle
