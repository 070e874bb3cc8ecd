// What tokenizer_config.json and generation_config.json say about text; both files may be missing. For this
// folder.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/text.h"

namespace fettle {

struct TextConfig {
  std::map<std::string, std::string>
      special_tokens;  // "bos_token" -> its text; every "..._token" of the file that has one
  bool add_bos = false;
  bool add_eos = false;
  std::optional<std::string> chat_template;  // the file chat_template.jinja wins over tokenizer_config.json
  std::vector<int32_t> end_ids;              // eos_token_id of generation_config.json

  std::optional<std::string> special_token(const std::string& name) const;
};

Result<TextConfig> read_text_config(const TextFiles& files);

}  // namespace fettle
