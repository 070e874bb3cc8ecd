// What a format's file gives to the list: how it is recognised and how it is made. For this folder.
#pragma once

#include "text/formats/format.h"

namespace fettle {

// What a format may be recognised by.
struct FormatHints {
  std::string chat_template;  // empty: the model has none
  std::string model_type;     // of config.json or GGUF metadata; empty: unknown
  const TextFiles& files;

  // Does the tokenizer's vocabulary hold this token (in either spelling that JSON has for it)?
  bool has_token(std::string_view token) const;
  bool template_has(std::string_view text) const { return chat_template.find(text) != std::string::npos; }
};

struct FormatEntry {
  std::string_view id;
  bool (*matches)(const FormatHints& hints);
  Result<std::shared_ptr<const ChatFormat>> (*load)(const TextFiles& files);
};

#define FETTLE_CHAT_FORMAT(name) FormatEntry chat_format_##name();
#include "text/formats/list.inc"
#undef FETTLE_CHAT_FORMAT

}  // namespace fettle
