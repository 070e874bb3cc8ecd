#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "base/file.h"
#include "base/progress.h"
#include "cli/verb.h"
#include "fit/open_model.h"
#include "fit/speculation.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

struct BenchArguments {
  std::string model;
  int64_t prompt = 512, generate = 64, batch = 1, depth = 0, repeat = 3;
  std::optional<Speculation> speculation;
  std::string questions;
};

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

// Fixed ids: speed does not depend on them, and runs are comparable.
std::vector<int32_t> some_ids(int64_t n, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * 7919 + 11) % vocab));
  return ids;
}

struct BenchFigures {
  std::vector<double> prefill, decode;  // tokens/s of each repeat
};

Status one_round(Executor& executor, const BenchArguments& args, int64_t chunk, BenchFigures* figures) {
  const int64_t vocab = executor.graph().vocab;
  std::vector<Sequence> sequences(static_cast<size_t>(args.batch));
  double prefill_s = 0;
  for (Sequence& sequence : sequences) {
    if (args.depth > 0) {
      TRY(const auto deep, executor.feed(sequence, some_ids(args.depth, vocab), chunk));
      (void)deep;
    }
    const auto start = std::chrono::steady_clock::now();
    TRY(const auto fed, executor.feed(sequence, some_ids(args.prompt, vocab), chunk));
    (void)fed;
    prefill_s += since(start);
  }
  figures->prefill.push_back(static_cast<double>(args.prompt * args.batch) / prefill_s);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < args.generate; ++i) {
    const int32_t id = static_cast<int32_t>((i * 104729 + 5) % vocab);
    std::vector<SequenceInput> inputs;
    for (Sequence& sequence : sequences) inputs.push_back({&sequence, {&id, 1}, Logits::kLast});
    TRY(const auto logits, executor.forward(inputs));
    (void)logits;
  }
  if (args.generate > 0)
    figures->decode.push_back(static_cast<double>(args.generate * args.batch) / since(start));
  for (Sequence& sequence : sequences) executor.cache().release(sequence);
  return {};
}

constexpr int64_t kTextPrompts = 4, kTextPromptTokens = 32;

// What speculation is measured on: text, as nothing else can be guessed. Beginnings of calibration text, or
// questions of a file, each as one user turn, until the reply ends.
Status add_text(const OpenedModel& model, const BenchArguments& args, SpeculationTrial* trial) {
  TRY(const auto tokenizer, Tokenizer::load(model.text_files));
  if (args.questions.empty()) {
    TRY(trial->prompts,
        calibration_prompts(*tokenizer, std::max(kTextPrompts, args.batch), kTextPromptTokens));
    return {};
  }
  trial->end_tokens = tokenizer->end_tokens();
  TRY(const auto format, load_chat_format(model.text_files));
  TRY(const std::string lines, read_file(args.questions));
  for (size_t at = 0; at < lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    TRY(const Json line, parse_json(std::string_view(lines).substr(at, end - at), args.questions));
    TRY(const std::string question, JsonReader(line, args.questions).string("prompt"));
    const Json messages = {{{"role", "user"}, {"content", question}}};
    TRY(const std::string text, format->render({{"messages", messages}}, {}));
    TRY(trial->prompts.emplace_back(), tokenizer->encode(text, false));
    at = end + 1;
  }
  return {};
}

Result<Json> bench_speculation(const OpenedModel& model, const BenchArguments& args) {
  SpeculationTrial trial;
  trial.candidates = {*args.speculation};
  TRY_STATUS(add_text(model, args, &trial));
  trial.batch = args.batch;
  trial.new_tokens = args.generate;
  trial.rounds = args.repeat;
  TRY(const auto measured, measure_speculation(*model.executor, trial));
  return measured_to_json(measured[0]);
}

Status run_bench(const BenchArguments& args, const GlobalOptions& global) {
  TRY(const Isa isa, choose_isa(global.isa));
  const Speculation speculation = args.speculation.value_or(Speculation{});
  constexpr int64_t kQuestion = 512;  // tokens, at most
  const int64_t longest = std::max(args.depth + args.prompt, kQuestion) + args.generate;
  const int64_t tokens = ((longest + kBlockTokens) / kBlockTokens + 1) * kBlockTokens * args.batch;
  constexpr int64_t kChunk = 256;
  const int64_t rows = args.batch * (1 + speculation.tokens);
  TRY(OpenedModel model, open_model(args.model, {.threads = global.threads,
                                                 .isa = isa,
                                                 .max_tokens = std::max(kChunk, rows),
                                                 .max_logit_rows = rows,
                                                 .cache_tokens = tokens,
                                                 .speculation = speculation}));
  const int64_t chunk = model.artifact ? std::min(kChunk, model.artifact->plan.prefill_chunk) : kChunk;
  BenchFigures figures;
  Progress progress("benchmark", static_cast<uint64_t>(args.repeat) + 1);
  BenchFigures warm_up;
  TRY_STATUS(one_round(*model.executor, args, chunk, &warm_up));
  progress.add(1);
  for (int64_t i = 0; i < args.repeat; ++i) {
    TRY_STATUS(one_round(*model.executor, args, chunk, &figures));
    progress.add(1);
  }
  progress.finish();
  std::optional<Json> speculative;
  if (speculation.kind != DraftKind::kNone) {
    TRY(speculative, bench_speculation(model, args));
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  Json json = {{"prompt", args.prompt},
               {"generate", args.generate},
               {"batch", args.batch},
               {"depth", args.depth},
               {"threads", model.executor->pool().size()},
               {"prefill_tok_s", median(figures.prefill)},
               {"decode_tok_s", median(figures.decode)},
               {"peak_rss_bytes", usage.ru_maxrss * 1024},
               {"load_s", model.load_s},
               {"weight_bytes", model.executor->weight_bytes()}};
  if (speculative) json["speculation"] = *speculative;
  if (global.json) {
    print_json(json);
    return {};
  }
  print_text(
      fmt::format("prefill {:>10.1f} tokens/s   ({} tokens{})\ndecode  {:>10.1f} tokens/s   (batch "
                  "{})\nload    {:>10.3f} s\npeak    {:>10}\n",
                  median(figures.prefill), args.prompt,
                  args.depth > 0 ? fmt::format(" at depth {}", args.depth) : "", median(figures.decode),
                  args.batch, model.load_s, format_bytes(static_cast<uint64_t>(usage.ru_maxrss) * 1024)));
  if (speculative)
    print_text(fmt::format(
        "{:<7} {:>10.1f} tokens/s   against {:.1f} without on the same text: {:.2f} times; {:.1f} % of "
        "drafts accepted\n",
        (*speculative)["speculation"].get<std::string>(), (*speculative)["speculative_tok_s"].get<double>(),
        (*speculative)["plain_tok_s"].get<double>(), (*speculative)["gain"].get<double>(),
        100 * (*speculative)["acceptance"].get<double>()));
  return {};
}

}  // namespace

void declare_bench(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto args = std::make_shared<BenchArguments>();
  app.add_option("model", args->model, "artifact, checkpoint directory or GGUF file")->required();
  app.add_option("--prompt", args->prompt, "tokens to prefill")->check(CLI::Range(1, 1 << 20));
  app.add_option("--gen", args->generate, "tokens to decode")->check(CLI::Range(0, 1 << 20));
  app.add_option("--batch", args->batch, "sequences at once")->check(CLI::Range(1, 256));
  app.add_option("--depth", args->depth, "tokens already in the cache")->check(CLI::Range(0, 1 << 20));
  app.add_option("--repeat", args->repeat, "rounds; medians are shown")->check(CLI::Range(1, 100));
  declare_speculation(app, &args->speculation, "measure this too, beside plain decoding of the same text");
  app.add_option("--questions", args->questions,
                 "JSON lines with a \"prompt\" each, in place of built-in text");
  *action = [args, &global] { return run_bench(*args, global); };
}

}  // namespace fettle
