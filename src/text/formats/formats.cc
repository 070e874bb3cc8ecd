#include <fmt/format.h>

#include "text/formats/entry.h"
#include "text/json_text.h"
#include "text/text_config.h"

namespace fettle {
namespace {

constexpr const char* kFormatFile = "chat_format";
constexpr const char* kModelTypeFile = "model_type";

std::vector<FormatEntry> entries() {
  return {
#define FETTLE_CHAT_FORMAT(name) chat_format_##name(),
#include "text/formats/list.inc"
#undef FETTLE_CHAT_FORMAT
  };
}

std::string file_line(const TextFiles& files, const char* name) {
  const auto file = files.find(name);
  if (file == files.end()) return {};
  const size_t end = file->second.find_last_not_of(" \t\r\n");
  return end == std::string::npos ? std::string() : file->second.substr(0, end + 1);
}

Result<FormatEntry> named_format(const std::string& id) {
  for (const FormatEntry& entry : entries()) {
    if (entry.id == id) return entry;
  }
  return unsupported("the model's chat format is \"{}\"; known are: {}", id,
                     fmt::join(chat_format_ids(), ", "));
}

Result<FormatEntry> find_format(const TextFiles& files) {
  if (const std::string id = file_line(files, kFormatFile); !id.empty()) return named_format(id);
  TRY(const TextConfig config, read_text_config(files));
  const FormatHints hints{config.chat_template.value_or(""), file_line(files, kModelTypeFile), files};
  for (const FormatEntry& entry : entries()) {
    if (entry.matches(hints)) return entry;
  }
  return unsupported("the model has no chat template; use --raw");
}

}  // namespace

bool FormatHints::has_token(std::string_view token) const {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    const auto file = files.find(name);
    if (file == files.end()) continue;
    if (file->second.find(json_string(token)) != std::string::npos) return true;
    if (file->second.find(ascii_json_string(token)) != std::string::npos) return true;
  }
  return false;
}

Result<std::shared_ptr<const ChatFormat>> load_chat_format(const TextFiles& files) {
  TRY(const FormatEntry entry, find_format(files));
  return entry.load(files);
}

Status settle_chat_format(TextFiles* files) {
  const auto entry = find_format(*files);
  if (!entry.ok() && entry.error().code() == Code::kUnsupported && !files->contains(kFormatFile)) return {};
  if (!entry.ok()) return entry.error();
  files->erase(kModelTypeFile);
  (*files)[kFormatFile] = std::string(entry.value().id) + "\n";
  return {};
}

std::vector<std::string> chat_format_ids() {
  std::vector<std::string> ids;
  for (const FormatEntry& entry : entries()) ids.emplace_back(entry.id);
  return ids;
}

}  // namespace fettle
