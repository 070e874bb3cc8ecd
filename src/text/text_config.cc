#include "text/text_config.h"

namespace fettle {
namespace {

constexpr int64_t kMaxTokenId = int64_t{1} << 24;
constexpr const char* kTokenizerConfig = "tokenizer_config.json";
constexpr const char* kGenerationConfig = "generation_config.json";

// A special token is its text, or an object with its text in "content".
std::optional<std::string> token_text(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (!token.is_object()) return std::nullopt;
  const auto content = token.find("content");
  if (content == token.end() || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

// One template, or a list of {name, template} of which "default" is for conversation.
Result<std::string> template_text(const Json& field) {
  if (field.is_string()) return field.get<std::string>();
  if (!field.is_array()) {
    return bad_input("{}: field \"chat_template\" is {}, expected a string or a list of {{name, template}}",
                     kTokenizerConfig, field.type_name());
  }
  std::string names;
  for (const Json& entry : field) {
    if (!entry.is_object()) {
      return bad_input("{}: field \"chat_template\" holds {}, expected objects {{name, template}}",
                       kTokenizerConfig, entry.type_name());
    }
    const JsonReader reader(entry, std::string(kTokenizerConfig) + ": chat_template");
    TRY(const std::string name, reader.string("name"));
    if (name == "default") return reader.string("template");
    names += (names.empty() ? "" : ", ") + name;
  }
  return bad_input("{}: field \"chat_template\" has the templates [{}], expected one named \"default\"",
                   kTokenizerConfig, names);
}

Result<Json> parse_object(const std::string& text, const char* file) {
  TRY(Json json, parse_json(text, file));
  if (!json.is_object())
    return bad_input("{}: the document is {}, expected an object", file, json.type_name());
  return json;
}

Status read_tokenizer_config(const std::string& text, TextConfig& config) {
  TRY(const Json json, parse_object(text, kTokenizerConfig));
  for (const auto& [key, value] : json.items()) {
    if (!key.ends_with("_token")) continue;
    if (auto token = token_text(value)) config.special_tokens.emplace(key, *token);
  }
  const JsonReader reader(json, kTokenizerConfig);
  TRY(config.add_bos, reader.boolean_or("add_bos_token", false));
  TRY(config.add_eos, reader.boolean_or("add_eos_token", false));
  if (reader.has("chat_template")) {
    TRY(config.chat_template, template_text(json["chat_template"]));
  }
  return {};
}

Status read_generation_config(const std::string& text, TextConfig& config) {
  TRY(const Json json, parse_object(text, kGenerationConfig));
  const JsonReader reader(json, kGenerationConfig);
  if (!reader.has("eos_token_id")) return {};
  std::vector<int64_t> ids;
  if (json["eos_token_id"].is_array()) {
    TRY(ids, reader.integers("eos_token_id"));
  } else {
    TRY(const int64_t id, reader.integer("eos_token_id"));
    ids.push_back(id);
  }
  for (const int64_t id : ids) {
    if (id < 0 || id > kMaxTokenId) {
      return bad_input("{}: field \"eos_token_id\" holds {}, expected a token id", kGenerationConfig, id);
    }
    config.end_ids.push_back(static_cast<int32_t>(id));
  }
  return {};
}

}  // namespace

std::optional<std::string> TextConfig::special_token(const std::string& name) const {
  const auto token = special_tokens.find(name);
  return token == special_tokens.end() ? std::nullopt : std::optional(token->second);
}

Result<TextConfig> read_text_config(const TextFiles& files) {
  TextConfig config;
  if (const auto file = files.find(kTokenizerConfig); file != files.end()) {
    TRY_STATUS(read_tokenizer_config(file->second, config));
  }
  if (const auto file = files.find(kGenerationConfig); file != files.end()) {
    TRY_STATUS(read_generation_config(file->second, config));
  }
  if (const auto file = files.find("chat_template.jinja"); file != files.end())
    config.chat_template = file->second;
  return config;
}

}  // namespace fettle
