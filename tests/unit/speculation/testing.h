// Small real models and prompts that they know how to answer.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "fit/open_model.h"
#include "quality/evaluate.h"
#include "runtime/generate.h"
#include "text/formats/format.h"
#include "text/text.h"

namespace fettle {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message();
    std::abort();
  }
  return std::move(result).value();
}

inline std::string data(const std::string& name) { return std::string(FETTLE_TEST_DATA) + "/" + name; }

// With its draft graph, if it has one.
inline OpenedModel open_test_model(const std::string& name, bool exact = false, int64_t cache_tokens = 4096) {
  Speculation speculation;
  if (name == "tiny-reasoner") speculation = {DraftKind::kMtp, 1};
  return must(open_model(
      data(name), {.exact = exact, .threads = 1, .cache_tokens = cache_tokens, .speculation = speculation}));
}

// Every `step`-th problem of the evaluation set, as one user turn.
inline std::vector<std::vector<int32_t>> problem_prompts(const OpenedModel& model, size_t step) {
  const auto tokenizer = must(Tokenizer::load(model.text_files));
  const auto format = must(load_chat_format(model.text_files));
  const auto items = must(read_tasks(data("tiny-reasoner/eval.jsonl")));
  std::vector<std::vector<int32_t>> prompts;
  for (size_t i = 0; i < items.size(); i += step) {
    const Json messages = {{{"role", "user"}, {"content", items[i].prompt}}};
    const std::string text = must(format->render({{"messages", messages}}, {}));
    prompts.push_back(must(tokenizer->encode(text, false)));
  }
  return prompts;
}

inline std::vector<int32_t> end_tokens(const OpenedModel& model) {
  return must(Tokenizer::load(model.text_files))->end_tokens();
}

}  // namespace fettle
