// Any other chat template. How its calls look and what form of arguments and content it takes is found by
// looking at the template and by rendering small conversations with it.
#include "text/formats/entry.h"
#include "text/formats/jinja_format.h"
#include "text/formats/json_calls.h"
#include "text/text_config.h"

namespace fettle {
namespace {

constexpr std::string_view kId = "jinja";
constexpr const char* kProbe = "probe-7f3a";

// A template may refuse a probe; one that takes more than its budget is useless altogether.
Result<std::string> render_probe(const ChatTemplate& chat_template, const Json& messages) {
  auto text = chat_template.render({{"messages", messages}}, false);
  if (text.ok() || text.error().code() == Code::kResource) return text;
  return std::string();
}

// A template that is given the text of arguments and writes it as a JSON string wants an object.
Result<bool> wants_object_arguments(const ChatTemplate& chat_template) {
  const std::string key = "\"" + std::string(kProbe) + "\"";
  const auto shows = [&](const Json& arguments) -> Result<bool> {
    const Json call = {
        {"id", "call00000"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", arguments}}}};
    const Json answer = {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}};
    TRY(const std::string text,
        render_probe(chat_template, Json::array({{{"role", "user"}, {"content", "q"}}, answer})));
    return text.find(key) != std::string::npos;
  };
  TRY(const bool shows_text, shows("{" + key + ": 1}"));
  if (shows_text) return false;
  return shows(Json{{kProbe, 1}});
}

Result<bool> takes_parts(const ChatTemplate& chat_template) {
  const Json part = {{"type", "text"}, {"text", kProbe}};
  const Json message = {{"role", "user"}, {"content", Json::array({part})}};
  TRY(const std::string text, render_probe(chat_template, Json::array({message})));
  return text.find(kProbe) != std::string::npos && text.find("'text'") == std::string::npos &&
         text.find("\"text\"") == std::string::npos;
}

Result<std::shared_ptr<const ChatFormat>> load(const TextFiles& files) {
  TRY(const TextConfig config, read_text_config(files));
  TRY(auto chat_template, ChatTemplate::load(files));
  TRY(const bool object_arguments, wants_object_arguments(*chat_template));
  TRY(const bool parts, takes_parts(*chat_template));
  const std::string& source = *config.chat_template;
  const auto has = [&](std::string_view text) { return source.find(text) != std::string::npos; };
  JinjaTraits traits{.id = kId,
                     .rules = {},
                     .developer_role = has("developer"),
                     .join_parts = !parts,
                     .object_arguments = object_arguments,
                     .calls = nullptr,
                     .markup = {"<think>", "</think>"}};
  const auto recognise = [&](JsonCallStyle style) {
    traits.calls = [style] { return make_json_call_reader(style); };
    traits.markup = json_call_markup(style);
  };
  if (has("<tool_call>"))
    recognise(JsonCallStyle::kTagged);
  else if (has("<|python_tag|>") || has("\"parameters\": "))
    recognise(JsonCallStyle::kBare);
  return make_jinja_format(std::move(chat_template), std::move(traits));
}

}  // namespace

FormatEntry chat_format_jinja() {
  return {kId, [](const FormatHints& hints) { return !hints.chat_template.empty(); }, load};
}

}  // namespace fettle
