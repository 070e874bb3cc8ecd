// Whether speculation pays on this machine: decoding with and without, side by side, of text that the model
// goes on with itself.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "runtime/executor.h"
#include "text/text.h"

namespace fettle {

struct SpeculationTrial {
  std::vector<Speculation> candidates;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int32_t> end_tokens{};
  int64_t batch = 1;  // prompts at once
  int64_t new_tokens = 48;
  int64_t rounds = 5;
};
// One entry a candidate. A reply that speculation changed is an error of code kInternal.
Result<std::vector<MeasuredSpeculation>> measure_speculation(Executor& executor,
                                                             const SpeculationTrial& trial);

// Beginnings of sentences of the calibration text.
Result<std::vector<std::vector<int32_t>>> calibration_prompts(const Tokenizer& tokenizer, int64_t count,
                                                              int64_t tokens);

// What a plan records and uses: the model's own draft graph, else n-grams, alone and beside others. It is
// turned on where it gains at least kLeastGain for one sequence; less may be noise.
inline constexpr double kLeastGain = 1.03;
Status plan_speculation(Executor& executor, const Tokenizer& tokenizer, Plan* plan,
                        std::vector<std::string>* notes);

}  // namespace fettle
