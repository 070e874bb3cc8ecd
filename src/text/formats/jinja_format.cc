#include "text/formats/jinja_format.h"

namespace fettle {
namespace {

// Parts of text as one text; nothing if a part is something else.
std::optional<std::string> joined_parts(const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    if (!part.is_object() || text_of(part, "type") != "text") return std::nullopt;
    text += (&part == &parts.front() ? "" : "\n") + text_of(part, "text");
  }
  return text;
}

void adapt_arguments(Json& call, bool want_object) {
  if (!call.is_object() || !field_of(call, "function").is_object()) return;
  const Json& arguments = field_of(call["function"], "arguments");
  if (arguments.is_object() && !want_object) {
    call["function"]["arguments"] = dump_json(arguments, -1);
  } else if (arguments.is_string() && want_object) {
    auto parsed = parse_json(arguments.get_ref<const std::string&>(), "arguments");
    if (parsed.ok() && parsed.value().is_object()) call["function"]["arguments"] = std::move(parsed).value();
  }
}

void adapt_message(Json& message, const JinjaTraits& traits) {
  if (!message.is_object()) return;
  if (text_of(message, "role") == "developer" && !traits.developer_role) message["role"] = "system";
  const Json& calls = field_of(message, "tool_calls");
  if (!message.contains("content") && calls.is_array()) message["content"] = nullptr;
  const Json& content = field_of(message, "content");
  if (content.is_array() && traits.join_parts) {
    if (auto text = joined_parts(content)) message["content"] = *text;
  }
  if (!calls.is_array()) return;
  for (Json& call : message["tool_calls"]) adapt_arguments(call, traits.object_arguments);
}

// Templates disagree on the switch's name, so both are set; an API's object becomes the boolean they expect.
Status set_thinking(Json& variables) {
  if (const Json more = field_of(variables, "chat_template_kwargs"); more.is_object()) {
    for (const auto& [name, value] : more.items()) {
      if (name != "messages") variables[name] = value;
    }
    variables.erase("chat_template_kwargs");
  }
  Json switches = Json::object();
  for (const char* name : {"thinking", "enable_thinking", "thinking_mode"}) {
    const Json& value = field_of(variables, name);
    if (value.is_boolean() || value.is_object() || value == "thinking" || value == "chat")
      switches[name] = value;
  }
  TRY(const Thinking thinking, read_thinking(switches));
  if (thinking.on) variables["thinking"] = variables["enable_thinking"] = *thinking.on;
  return {};
}

class JinjaFormat final : public ChatFormat {
 public:
  JinjaFormat(std::shared_ptr<const ChatTemplate> chat_template, JinjaTraits traits)
      : template_(std::move(chat_template)), traits_(std::move(traits)) {}

  std::string_view id() const override { return traits_.id; }

  Result<std::string> render(const Json& request, const RenderOptions& options) const override {
    if (!options.from_api || !request.is_object() || !field_of(request, "messages").is_array())
      return checked(request, options);
    TRY_STATUS(check_depth(request));
    Json adapted = request;
    for (Json& message : adapted["messages"]) adapt_message(message, traits_);
    return checked(adapted, options);
  }

  std::unique_ptr<ReplyParser> parser(const ParserStart& start) const override {
    return make_reply_parser(start, traits_.calls ? traits_.calls() : nullptr);
  }

  std::vector<std::string> markup() const override { return traits_.markup; }

 private:
  Result<std::string> checked(const Json& request, const RenderOptions& options) const {
    TRY_STATUS(check_request(request, traits_.rules));
    Json variables = request;
    TRY_STATUS(set_thinking(variables));
    return template_->render(variables, options.add_generation_prompt);
  }

  std::shared_ptr<const ChatTemplate> template_;
  JinjaTraits traits_;
};

}  // namespace

std::shared_ptr<const ChatFormat> make_jinja_format(std::shared_ptr<const ChatTemplate> chat_template,
                                                    JinjaTraits traits) {
  return std::make_shared<JinjaFormat>(std::move(chat_template), std::move(traits));
}

}  // namespace fettle
