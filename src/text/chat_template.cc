#include "text/native.h"
#include "text/text.h"
#include "text/text_config.h"

namespace fettle {

struct ChatTemplate::Impl {
  native::TemplateHandle handle;
  std::map<std::string, std::string> special_tokens;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::shared_ptr<const ChatTemplate>> ChatTemplate::load(const TextFiles& files) {
  TRY(TextConfig config, read_text_config(files));
  if (!config.chat_template) return unsupported("the model has no chat template; use --raw");

  auto impl = std::make_unique<Impl>();
  impl->special_tokens = std::move(config.special_tokens);
  const std::string& source = *config.chat_template;
  fettle_template* handle = nullptr;
  fettle_text_bytes error{};
  const int32_t status = fettle_template_new(native::data(source), source.size(), &handle, &error);
  if (status != FETTLE_TEXT_OK) return native::to_error(status, error);
  impl->handle.reset(handle);
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

Result<std::string> ChatTemplate::render(const Json& variables, bool add_generation_prompt) const {
  if (!variables.is_object()) {
    return bad_input("the template's variables are {}, expected an object with \"messages\"",
                     variables.type_name());
  }
  const auto messages = variables.find("messages");
  if (messages == variables.end() || !messages->is_array()) {
    return bad_input("the template's variables: field \"messages\" is {}, expected a list",
                     messages == variables.end() ? "missing" : messages->type_name());
  }
  Json all = {{"tools", nullptr},
              {"documents", nullptr}};  // defined even when not given: templates test them for none
  for (const auto& [name, text] : impl_->special_tokens) all[name] = text;
  for (const auto& [name, value] : variables.items()) all[name] = value;
  all["add_generation_prompt"] = add_generation_prompt;

  const std::string json = dump_json(all, -1);
  fettle_text_bytes text{}, error{};
  const int32_t status =
      fettle_template_render(impl_->handle.get(), native::data(json), json.size(), &text, &error);
  if (status != FETTLE_TEXT_OK) return native::to_error(status, error);
  return native::take(text);
}

}  // namespace fettle
