// GGUF keeps a tokenizer as arrays of metadata; these functions write the files that the original model had.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace fettle {

struct GgufTokenizer {
  std::string model;  // tokenizer.ggml.model: only "gpt2" (byte-level BPE) is supported
  std::string pre;    // tokenizer.ggml.pre: "smollm", "qwen2", "llama-bpe", "deepseek-r1-qwen", ...
  std::vector<std::string> tokens;
  std::vector<int32_t>
      token_type;  // 1 normal, 3 control (special), 4 user-defined (added, not special), 6 byte
  std::vector<std::string> merges;  // "A B"
  std::optional<int64_t> bos, eos, pad, unknown;
  std::optional<bool> add_bos, add_eos;
  std::string chat_template;  // may be empty
};

// The text of a tokenizer.json (Hugging Face tokenizers) with the same ids for every text.
Result<std::string> tokenizer_json_from_gguf(const GgufTokenizer& gguf);
// The text of a tokenizer_config.json: bos/eos/pad token, add_bos_token, add_eos_token, chat_template.
Result<std::string> tokenizer_config_from_gguf(const GgufTokenizer& gguf);

}  // namespace fettle
