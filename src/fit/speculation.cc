#include "fit/speculation.h"

#include <algorithm>
#include <chrono>

#include "base/progress.h"
#include "quality/builtin_text.h"
#include "quality/evaluate.h"
#include "runtime/generate.h"

namespace fettle {

namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// All prompts, `batch` at once.
struct Pass {
  double seconds = 0;
  int64_t tokens = 0, drafted = 0, accepted = 0;
  std::vector<std::vector<int32_t>> replies;
};
Result<Pass> decode_all(Executor& executor, const SpeculationTrial& trial, const Speculation& speculation) {
  GenerateOptions options;
  options.max_tokens = trial.new_tokens;
  options.end_tokens = trial.end_tokens;
  options.speculation = speculation;
  Pass pass;
  const auto batch = static_cast<size_t>(trial.batch);
  for (size_t at = 0; at < trial.prompts.size(); at += batch) {
    const auto prompts = std::span(trial.prompts).subspan(at, std::min(batch, trial.prompts.size() - at));
    TRY(const std::vector<Reply> replies, generate_together(executor, prompts, options));
    pass.seconds += replies[0].decode_s;
    for (const Reply& reply : replies) {
      pass.tokens += static_cast<int64_t>(reply.tokens.size());
      pass.drafted += reply.drafted;
      pass.accepted += reply.accepted;
      pass.replies.push_back(reply.tokens);
    }
  }
  return pass;
}

}  // namespace

Result<std::vector<MeasuredSpeculation>> measure_speculation(Executor& executor,
                                                             const SpeculationTrial& trial) {
  struct Figures {
    std::vector<double> tok_s, gain;
    int64_t drafted = 0, accepted = 0;
  };
  std::vector<double> plain_tok_s;
  std::vector<Figures> figures(trial.candidates.size());
  Progress progress("measuring speculation", static_cast<uint64_t>(trial.rounds));
  for (int64_t round = 0; round < trial.rounds; ++round) {
    TRY(const Pass plain, decode_all(executor, trial, {}));
    plain_tok_s.push_back(static_cast<double>(plain.tokens) / plain.seconds);
    for (size_t c = 0; c < trial.candidates.size(); ++c) {
      TRY(const Pass pass, decode_all(executor, trial, trial.candidates[c]));
      if (pass.replies != plain.replies)
        return make_error(Code::kInternal, "replies change with speculation {}",
                          speculation_text(trial.candidates[c]));
      figures[c].tok_s.push_back(static_cast<double>(pass.tokens) / pass.seconds);
      figures[c].gain.push_back(plain.seconds / pass.seconds);
      figures[c].drafted += pass.drafted;
      figures[c].accepted += pass.accepted;
    }
    progress.add(1);
  }
  std::vector<MeasuredSpeculation> out;
  for (size_t c = 0; c < trial.candidates.size(); ++c) {
    const Figures& f = figures[c];
    out.push_back({trial.candidates[c], trial.batch, median(plain_tok_s), median(f.tok_s), median(f.gain),
                   f.drafted > 0 ? static_cast<double>(f.accepted) / static_cast<double>(f.drafted) : 0});
  }
  return out;
}

Result<std::vector<std::vector<int32_t>>> calibration_prompts(const Tokenizer& tokenizer, int64_t count,
                                                              int64_t tokens) {
  TRY(const auto windows, make_windows(tokenizer, std::string(calibration_text()), tokens));
  const int64_t whole = static_cast<int64_t>(windows.size()) - 1;  // the last may be short
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t i = 0; i < count && whole > 0; ++i)
    prompts.push_back(windows[static_cast<size_t>(i * whole / count)]);
  return prompts;
}

Status plan_speculation(Executor& executor, const Tokenizer& tokenizer, Plan* plan,
                        std::vector<std::string>* notes) {
  constexpr int64_t kPrompts = 4, kPromptTokens = 24, kTogether = 4, kQuickTokens = 4;
  constexpr double kSeconds = 2;  // of plain decoding, in all
  SpeculationTrial trial;
  if (executor.has_draft())
    trial.candidates = {{DraftKind::kMtp, 1}, {DraftKind::kMtp, 2}, {DraftKind::kMtp, 3}};
  else
    trial.candidates = {{DraftKind::kNgram, 2}, {DraftKind::kNgram, 4}};
  TRY(trial.prompts, calibration_prompts(tokenizer, kPrompts, kPromptTokens));
  if (trial.prompts.empty() || executor.graph().context < kPromptTokens + 2 * trial.new_tokens) return {};

  // As many tokens as there is time for; a model that takes seconds for each is left without.
  SpeculationTrial quick = trial;
  quick.new_tokens = kQuickTokens;
  TRY_STATUS(decode_all(executor, quick, {}));
  TRY(const Pass pass, decode_all(executor, quick, {}));
  const double token_s = pass.seconds / static_cast<double>(pass.tokens);
  const auto affordable =
      static_cast<int64_t>(kSeconds / token_s / static_cast<double>(trial.rounds * kPrompts));
  trial.new_tokens = std::min(trial.new_tokens, affordable);
  if (trial.new_tokens < kQuickTokens) {
    notes->push_back("speculation is not measured and stays off: a token takes too long");
    return {};
  }
  TRY(plan->speculations, measure_speculation(executor, trial));
  const MeasuredSpeculation best =
      *std::max_element(plan->speculations.begin(), plan->speculations.end(),
                        [](const auto& a, const auto& b) { return a.gain < b.gain; });
  plan->speculation = best.gain >= kLeastGain ? best.speculation : Speculation{};
  trial.batch = kTogether;
  trial.candidates = {best.speculation};
  TRY(const auto together, measure_speculation(executor, trial));
  plan->speculations.insert(plan->speculations.end(), together.begin(), together.end());
  notes->push_back(fmt::format("speculation {}: {} decodes at {:.2f} times the speed, {:.0f} % accepted",
                               speculation_text(plan->speculation), speculation_text(best.speculation),
                               best.gain, 100 * best.acceptance));
  return {};
}

}  // namespace fettle
