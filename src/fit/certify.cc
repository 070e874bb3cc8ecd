#include "fit/certify.h"

#include <algorithm>
#include <chrono>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "quality/builtin_text.h"
#include "quality/text_checks.h"
#include "text/formats/self_test.h"
#include "weights/evaluate.h"

namespace fettle {

namespace {

struct EvaluationText {
  std::string text, sha256;
};
Result<EvaluationText> evaluation_of(const CertifyOptions& options) {
  EvaluationText out{std::string(evaluation_text()), ""};
  if (!options.text_file.empty()) {
    TRY(out.text, read_file(options.text_file));
  }
  out.sha256 = sha256_hex(out.text);
  return out;
}

// Prompts for continuations: the beginnings of windows spread over the text.
std::vector<TokenWindow> prompt_windows(const std::vector<TokenWindow>& windows, int64_t count) {
  constexpr size_t kPromptTokens = 32;
  std::vector<TokenWindow> prompts;
  const size_t wanted = std::min(windows.size(), static_cast<size_t>(count));
  for (size_t i = 0; i < wanted; ++i) {
    const TokenWindow& w = windows[i * windows.size() / wanted];
    if (w.size() >= kPromptTokens) prompts.emplace_back(w.begin(), w.begin() + kPromptTokens);
  }
  return prompts;
}

// A pair of open models, and what their comparison needs besides.
struct Pair {
  OpenedModel source, adapted;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string spill_directory, source_digest;
  SourceCache cache;
};

// New tokens of each continuation. Every one of them reads the whole source: a large one allows few.
int64_t affordable_tokens(const Graph& source, int64_t wanted) {
  constexpr uint64_t kBytesRead = uint64_t{512} << 30;
  const uint64_t bytes = std::max<uint64_t>(1, stored_bytes(source.weights, true));
  return std::min(wanted, std::max<int64_t>(4, static_cast<int64_t>(kBytesRead / bytes)));
}

Result<std::string> joined_text(const Tokenizer& tokenizer, const std::vector<TokenWindow>& texts) {
  std::string joined;
  for (const TokenWindow& text : texts) {
    TRY(const std::string one, tokenizer.decode(text, true));
    joined += one + "\n";
  }
  return joined;
}

// What the source writes after the prompts.
Result<std::vector<TokenWindow>> source_continues(Pair& pair, const std::vector<TokenWindow>& prompts,
                                                  int64_t new_tokens) {
  const auto ends = pair.tokenizer->end_tokens();
  const std::string what =
      fmt::format("continue {} {}{}", new_tokens, tokens_text({TokenWindow(ends.begin(), ends.end())}),
                  tokens_text(prompts));
  if (const auto kept = pair.cache.find(what)) return kept->get<std::vector<TokenWindow>>();
  TRY(const auto texts,
      continue_greedily(*pair.source.executor, prompts, new_tokens, ends, "source continues"));
  pair.cache.keep(what, texts);
  return texts;
}

Status certify_generated(Pair& pair, const std::vector<TokenWindow>& windows, const CertifyOptions& options,
                         Certificate* certificate) {
  Executor &source = *pair.source.executor, &adapted = *pair.adapted.executor;
  const auto prompts = prompt_windows(windows, options.generated_prompts);
  if (prompts.empty()) return {};
  const int64_t new_tokens = affordable_tokens(source.graph(), options.generated_tokens);
  const auto ends = pair.tokenizer->end_tokens();
  TRY(const auto by_source, source_continues(pair, prompts, new_tokens));
  TRY(const auto by_adapted, continue_greedily(adapted, prompts, new_tokens, ends, "adapted continues"));
  const int64_t prompt = static_cast<int64_t>(prompts[0].size());
  const auto without_prompt = [&](const std::vector<TokenWindow>& all) {
    std::vector<TokenWindow> out;
    for (const TokenWindow& w : all) out.emplace_back(w.begin() + prompt, w.end());
    return out;
  };
  certificate->greedy_prefix =
      greedy_prefix(without_prompt(by_source), without_prompt(by_adapted), new_tokens);
  std::vector<TokenWindow> long_enough;
  for (const TokenWindow& w : by_source)
    if (static_cast<int64_t>(w.size()) > prompt) long_enough.push_back(w);
  if (long_enough.empty()) return {};
  SourceTrace trace = pair.cache.trace("generated " + tokens_text(long_enough));
  TRY(const Comparison comparison, compare(source, adapted, long_enough,
                                           {.first_scored = prompt - 1,
                                            .label = "comparing on generated text",
                                            .spill_directory = pair.spill_directory,
                                            .layer_windows = 0,
                                            .trace = &trace}));
  certificate->generated = drift_part(comparison.scores, 16);
  certificate->repetition = check_repetition(without_prompt(by_source), without_prompt(by_adapted));
  TRY(const std::string source_text, joined_text(*pair.tokenizer, without_prompt(by_source)));
  TRY(const std::string adapted_text, joined_text(*pair.tokenizer, without_prompt(by_adapted)));
  certificate->language_mix = check_language_mix(source_text, adapted_text);
  return {};
}

// How many answers of the source are right.
Result<TaskMarks> source_answers(Pair& pair, const ChatFormat& chat, const std::vector<TaskItem>& items,
                                 const CertifyOptions& options) {
  std::string what = fmt::format("tasks {}\n", options.max_task_tokens);
  for (const auto& [name, text] : pair.adapted.text_files)
    what += fmt::format("{} {}\n", name, sha256_hex(text));
  for (const TaskItem& item : items) what += dump_json(Json{item.task, item.prompt, item.answer}, -1) + "\n";
  if (const auto kept = pair.cache.find(what)) return TaskMarks{kept->get<decltype(TaskMarks::right_of)>()};
  TRY(const TaskMarks marks, answer_tasks(*pair.source.executor, *pair.tokenizer, chat, items,
                                          options.max_task_tokens, "source answers"));
  pair.cache.keep(what, marks.right_of);
  return marks;
}

Status certify_tasks(Pair& pair, const CertifyOptions& options, Certificate* certificate) {
  if (options.tasks_file.empty()) return {};
  TRY(const auto items, read_tasks(options.tasks_file));
  TRY(const auto chat, load_chat_format(pair.adapted.text_files));
  TRY(const TaskMarks by_source, source_answers(pair, *chat, items, options));
  TRY(const TaskMarks by_adapted, answer_tasks(*pair.adapted.executor, *pair.tokenizer, *chat, items,
                                               options.max_task_tokens, "adapted answers"));
  for (const auto& [task, marks] : by_source.right_of)
    certificate->tasks.push_back(
        task_score(task, marks.second, marks.first, by_adapted.right_of.at(task).first));
  return {};
}

// The model's own format renders and reads back a chat, reasoning and a tool call.
std::optional<Check> check_format(const OpenedModel& model, const Tokenizer& tokenizer) {
  const auto format = load_chat_format(model.text_files);
  if (!format.ok()) return std::nullopt;
  const auto tried = test_chat_format(**format, tokenizer);
  if (!tried.ok()) return Check{false, tried.error().message()};
  return Check{tried->passed, tried->detail};
}

void describe_artifact(const Artifact& artifact, Certificate* certificate) {
  certificate->content_digest = artifact.content_digest;
  certificate->target = artifact.plan.target;
  for (const SchemeShare& share : certificate->schemes)
    for (const KernelPlan& kernel : artifact.plan.kernels)
      if (kernel.scheme == share.scheme)
        certificate->speed_by_scheme.push_back({share.scheme, kernel.read_gbs, false});
  certificate->model = artifact.manifest.value("name", certificate->model);
  const std::string made_from = artifact.manifest.value("source_digest", std::string());
  if (made_from != certificate->source_digest)
    log_warning("'{}' is not what this artifact was made from ('{}'): their bytes differ",
                certificate->source, artifact.manifest.value("source", std::string("?")));
}

// Both models, within the memory that was promised: the adapted one may take half of it, the source the rest.
Result<Pair> open_pair(const CertifySubject& subject, const CertifyOptions& options) {
  constexpr int64_t kStep = 64, kPrompt = 512;
  // Blocks of the cache are touched only as sequences grow into them.
  const int64_t for_tasks =
      options.tasks_file.empty() ? 0 : kTasksAtOnce * (kPrompt + options.max_task_tokens);
  OpenOptions open{.threads = subject.threads,
                   .isa = subject.isa,
                   .max_tokens = kStep,
                   .max_logit_rows = kStep,
                   .cache_tokens = std::max(subject.cache_tokens, for_tasks),
                   .memory = {subject.memory_limit, 0, 0.5, subject.spill_directory}};
  Pair pair;
  TRY(pair.adapted, open_model(subject.adapted, open));
  open.exact = true;
  open.memory.share = 1;
  open.memory.taken = pair.adapted.held_bytes;
  TRY(pair.source, open_model(subject.source, open));
  TRY(pair.tokenizer, Tokenizer::load(pair.adapted.text_files));
  pair.source_digest = subject.source_digest;
  if (pair.source_digest.empty()) {
    TRY(pair.source_digest, source_digest(*pair.source.checkpoint));
  }
  if (!subject.cache_directory.empty())
    pair.cache = SourceCache(subject.cache_directory, pair.source_digest, subject.isa);
  if (pair.source.held_bytes == 0) {
    pair.spill_directory = subject.spill_directory;
    log_info("the source is larger than the memory allowed: it passes through layer by layer");
  }
  return pair;
}

// Speed and memory as it will be served: steps of the usual size, weights in memory if
// they fit now that the source is gone.
Status measure_alone(Pair& pair, const CertifySubject& subject, Certificate* certificate) {
  pair.source.executor.reset();
  if (pair.adapted.artifact) {
    pair.adapted.executor.reset();
    TRY(pair.adapted, open_model(subject.adapted, {.threads = subject.threads,
                                                   .isa = subject.isa,
                                                   .cache_tokens = subject.cache_tokens,
                                                   .memory = {subject.memory_limit, 0, 1, ""}}));
  }
  const Executor& executor = *pair.adapted.executor;
  certificate->memory.peak_bytes =
      static_cast<int64_t>(executor.weight_bytes() + executor.activation_bytes()) +
      certificate->memory.kv_bytes_per_token * subject.cache_tokens;
  certificate->speed = measure_speed(*pair.adapted.executor);
  return {};
}

}  // namespace

Speed measure_speed(Executor& executor) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  constexpr int64_t kPrompt = 128, kNew = 24;
  const int64_t room = executor.cache().total_blocks() * kBlockTokens;
  if (room < kPrompt + kNew || executor.graph().context < kPrompt + kNew) return {};
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < kPrompt; ++i)
    prompt.push_back(static_cast<int32_t>((i * 7919 + 11) % executor.graph().vocab));
  std::vector<double> prefill, decode;
  for (int round = 0; round < 5; ++round) {
    Sequence sequence;
    auto start = Clock::now();
    if (!executor.feed(sequence, prompt, kPrompt).ok()) return {};
    prefill.push_back(kPrompt / seconds(start));
    start = Clock::now();
    for (int64_t i = 0; i < kNew; ++i) {
      const int32_t id = prompt[static_cast<size_t>(i)];
      const SequenceInput input{&sequence, {&id, 1}, Logits::kLast};
      if (!executor.forward({&input, 1}).ok()) return {};
    }
    decode.push_back(kNew / seconds(start));
    executor.cache().release(sequence);
  }
  const auto spread = [](std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return Interval{v[v.size() / 2], v.front(), v.back()};
  };
  return {spread(prefill), spread(decode), executor.pool().size(), true, "this machine"};
}

void describe_weights(const Graph& graph, const std::optional<Graph>& draft, Certificate* certificate) {
  std::map<std::string, SchemeShare> shares;
  for (const Weight& w : all_weights(graph, draft)) {
    const Expr& e = *w.expr;
    (is_carried(e) ? certificate->carried : certificate->requantised) += e.stack();
    SchemeShare& share = shares[std::string(scheme_name(e.scheme))];
    share.scheme = scheme_name(e.scheme);
    share.tensors += e.stack();
    share.parameters += e.parameters();
    share.bytes += stored_size(e.scheme, e.shape).total_bytes;
  }
  for (auto& [name, share] : shares) {
    certificate->memory.weights_bytes += share.bytes;
    certificate->schemes.push_back(std::move(share));
  }
  std::stable_sort(certificate->schemes.begin(), certificate->schemes.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  certificate->memory.kv_bytes_per_token = kv_bytes_per_token(graph);
  certificate->architecture = graph.architecture;
  certificate->parameters = graph.parameters();
}

Result<Certificate> certify(const CertifySubject& subject, const CertifyOptions& options) {
  TRY(Pair pair, open_pair(subject, options));
  const Graph& graph = pair.adapted.executor->graph();
  Certificate certificate;
  certificate.created = options.created;
  certificate.made_by = options.made_by;
  certificate.budget = options.budget;
  certificate.model = base_name(subject.adapted);
  certificate.source = base_name(subject.source);
  certificate.source_digest = pair.source_digest;
  describe_weights(graph, pair.adapted.artifact ? pair.adapted.artifact->draft : std::nullopt, &certificate);
  if (pair.adapted.artifact) describe_artifact(*pair.adapted.artifact, &certificate);

  TRY(const EvaluationText text, evaluation_of(options));
  certificate.evaluation_sha256 = text.sha256;
  TRY(auto windows, make_windows(*pair.tokenizer, text.text, std::min<int64_t>(512, graph.context)));
  if (options.max_windows > 0 && static_cast<int64_t>(windows.size()) > options.max_windows)
    windows.resize(static_cast<size_t>(options.max_windows));

  SourceTrace trace = pair.cache.trace("held out " + tokens_text(windows));
  TRY(const Comparison comparison,
      compare(
          *pair.source.executor, *pair.adapted.executor, windows,
          {.label = "comparing on held-out text", .spill_directory = pair.spill_directory, .trace = &trace}));
  certificate.evaluation = drift_part(comparison.scores);
  certificate.kld_by_layer = comparison.by_layer;
  certificate.router_overlap = comparison.router_overlap;
  TRY_STATUS(certify_generated(pair, windows, options, &certificate));
  TRY_STATUS(certify_tasks(pair, options, &certificate));
  certificate.template_round_trip = check_format(pair.adapted, *pair.tokenizer);
  TRY_STATUS(measure_alone(pair, subject, &certificate));
  apply_budget(&certificate);
  return certificate;
}

}  // namespace fettle
