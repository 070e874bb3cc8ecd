// The small tokenizers of tests/data/text, one for each pre-tokenizer grammar: as tokenizer.json and as GGUF
// metadata, with the ids that the reference implementation gives for the texts of texts.json.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/gguf_tokenizer.h"
#include "text/text.h"

namespace fettle {

inline const std::vector<std::string> kGrammars = {"smollm", "qwen2", "llama-bpe", "deepseek-v3",
                                                   "deepseek-llm"};

inline std::string data_file(const std::string& name) {
  auto text = read_file(std::string(FETTLE_TEST_DATA) + "/text/" + name);
  EXPECT_TRUE(text.ok()) << text.error().message();
  return text.ok() ? *text : std::string();
}

inline Json data_json(const std::string& name) {
  auto json = parse_json(data_file(name), name);
  EXPECT_TRUE(json.ok()) << json.error().message();
  return json.ok() ? *json : Json();
}

inline std::vector<std::string> texts() { return data_json("texts.json").get<std::vector<std::string>>(); }

inline std::shared_ptr<const Tokenizer> load_tokenizer(const TextFiles& files) {
  auto tokenizer = Tokenizer::load(files);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

inline std::shared_ptr<const Tokenizer> grammar_tokenizer(const std::string& grammar) {
  return load_tokenizer({{"tokenizer.json", data_file(grammar + ".tokenizer.json")}});
}

inline GgufTokenizer gguf_metadata(const std::string& grammar) {
  const Json metadata = data_json(grammar + ".gguf.json")["metadata"];
  const auto key = [&](const char* name) { return metadata.at(std::string("tokenizer.ggml.") + name); };
  GgufTokenizer gguf;
  gguf.model = key("model").get<std::string>();
  gguf.pre = key("pre").get<std::string>();
  gguf.tokens = key("tokens").get<std::vector<std::string>>();
  gguf.token_type = key("token_type").get<std::vector<int32_t>>();
  gguf.merges = key("merges").get<std::vector<std::string>>();
  gguf.bos = key("bos_token_id").get<int64_t>();
  gguf.eos = key("eos_token_id").get<int64_t>();
  gguf.add_bos = key("add_bos_token").get<bool>();
  return gguf;
}

}  // namespace fettle
