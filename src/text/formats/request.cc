#include "text/formats/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace fettle {
namespace {

constexpr int kDeepest = 100;

Error wrong(const std::string& where, const Json& found, std::string_view expected) {
  return bad_input("{} is {}, expected {}", where, found.is_null() ? "missing" : found.type_name(), expected);
}

// Without recursion: a request may be nested as deep as its sender likes.
bool too_deep(const Json& root) {
  std::vector<std::pair<const Json*, int>> todo = {{&root, 1}};
  while (!todo.empty()) {
    const auto [value, depth] = todo.back();
    todo.pop_back();
    if (!value->is_structured()) continue;
    if (depth > kDeepest) return true;
    for (const Json& item : *value) todo.emplace_back(&item, depth + 1);
  }
  return false;
}

Status check_parts(const Json& parts, const std::string& where) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string part = fmt::format("{}[{}]", where, i);
    if (!parts[i].is_object()) return wrong(part, parts[i], "an object with \"type\"");
    const Json& type = field_of(parts[i], "type");
    if (!type.is_string()) return wrong(part + ".type", type, "a string");
    const Json& text = field_of(parts[i], "text");
    if (type == "text" && !text.is_string()) return wrong(part + ".text", text, "a string");
  }
  return {};
}

Status check_content(const Json& message, const std::string& where, const RequestRules& rules) {
  const auto content = message.find("content");
  if (content == message.end()) {
    if (rules.content_key) return bad_input("{}.content is missing, expected a string or null", where);
    return {};
  }
  if (content->is_null() || content->is_string()) return {};
  if (rules.plain_content) return wrong(where + ".content", *content, "a string or null");
  if (!content->is_array()) return wrong(where + ".content", *content, "a string, null or a list of parts");
  return check_parts(*content, where + ".content");
}

Status check_call(const Json& call, const std::string& where, const RequestRules& rules) {
  if (!call.is_object()) return wrong(where, call, "an object with \"function\"");
  const Json& function = field_of(call, "function");
  if (!function.is_object()) return wrong(where + ".function", function, "an object");
  const Json& name = field_of(function, "name");
  if (!name.is_string()) return wrong(where + ".function.name", name, "a string");
  const Json& arguments = field_of(function, "arguments");
  if (arguments.is_string() || (arguments.is_object() && !rules.text_arguments)) return {};
  return wrong(where + ".function.arguments", arguments,
               rules.text_arguments ? "the text of a JSON object" : "a JSON object or its text");
}

Status check_tools(const Json& tools, const std::string& where) {
  if (tools.is_null()) return {};
  if (!tools.is_array()) return wrong(where, tools, "a list");
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string tool = fmt::format("{}[{}]", where, i);
    if (!tools[i].is_object()) return wrong(tool, tools[i], "an object");
    const Json& function = field_of(tools[i], "function");
    if (!function.is_object()) return wrong(tool + ".function", function, "an object");
    if (!field_of(function, "name").is_string())
      return wrong(tool + ".function.name", field_of(function, "name"), "a string");
  }
  return {};
}

Status check_message(const Json& message, const std::string& where, const RequestRules& rules) {
  if (!message.is_object()) return wrong(where, message, "an object with \"role\" and \"content\"");
  const Json& role = field_of(message, "role");
  if (!role.is_string()) return wrong(where + ".role", role, "a string");
  const auto& name = role.get_ref<const std::string&>();
  if (!rules.roles.empty() && std::find(rules.roles.begin(), rules.roles.end(), name) == rules.roles.end())
    return bad_input("{}.role is \"{}\", expected one of: {}", where, name, fmt::join(rules.roles, ", "));
  TRY_STATUS(check_content(message, where, rules));
  for (const char* field : {"reasoning_content", "tool_call_id"}) {
    const Json& value = field_of(message, field);
    if (!value.is_null() && !value.is_string())
      return wrong(fmt::format("{}.{}", where, field), value, "a string");
  }
  const Json& calls = field_of(message, "tool_calls");
  if (!calls.is_null() && !calls.is_array()) return wrong(where + ".tool_calls", calls, "a list");
  for (size_t i = 0; i < calls.size(); ++i)
    TRY_STATUS(check_call(calls[i], fmt::format("{}.tool_calls[{}]", where, i), rules));
  return check_tools(field_of(message, "tools"), where + ".tools");
}

Status read_switch(const Json& object, const std::string& where, Thinking& thinking) {
  for (const char* name : {"thinking", "enable_thinking"}) {
    const Json& value = field_of(object, name);
    if (value.is_null()) continue;
    const Json& type = value.is_object() ? field_of(value, "type") : value;
    if (type.is_boolean())
      thinking.on = type.get<bool>();
    else if (value.is_object() && (type == "enabled" || type == "disabled"))
      thinking.on = type == "enabled";
    else
      return wrong(where + name, value, "true, false or {\"type\": \"enabled\"|\"disabled\"}");
  }
  const Json& mode = field_of(object, "thinking_mode");
  if (mode.is_null()) return {};
  if (mode != "thinking" && mode != "chat")
    return wrong(where + "thinking_mode", mode, "\"thinking\" or \"chat\"");
  thinking.on = mode == "thinking";
  return {};
}

Status read_effort(const Json& effort, const std::string& where, Thinking& thinking) {
  constexpr std::pair<std::string_view, std::string_view> kEfforts[] = {
      {"minimal", "low"}, {"low", "low"}, {"medium", "high"}, {"high", "high"},
      {"xhigh", "high"},  {"max", "max"}, {"ultra", "max"}};
  if (effort.is_null()) return {};
  if (effort == "none") {
    thinking.on = false;
    return {};
  }
  for (const auto& [said, meant] : kEfforts) {
    if (effort == said) {
      thinking.effort = meant;
      return {};
    }
  }
  return wrong(where, effort, "none, minimal, low, medium, high, xhigh, max or ultra");
}

}  // namespace

const Json& field_of(const Json& object, const char* name) {
  static const Json kNull;
  const auto field = object.find(name);
  return field == object.end() ? kNull : *field;
}

std::string text_of(const Json& object, const char* name) {
  const Json& field = field_of(object, name);
  return field.is_string() ? field.get<std::string>() : std::string();
}

Status check_depth(const Json& request) {
  if (!request.is_object()) return {};
  for (const auto& [name, value] : request.items()) {
    if (name != "messages" && too_deep(value))
      return bad_input("{} is nested deeper than {} levels", name, kDeepest);
  }
  const Json& messages = field_of(request, "messages");
  for (size_t i = 0; messages.is_array() && i < messages.size(); ++i) {
    if (too_deep(messages[i])) return bad_input("messages[{}] is nested deeper than {} levels", i, kDeepest);
  }
  return {};
}

Status check_request(const Json& request, const RequestRules& rules) {
  TRY_STATUS(check_depth(request));
  if (!request.is_object()) return wrong("the request", request, "an object with \"messages\"");
  const Json& messages = field_of(request, "messages");
  if (!messages.is_array()) return wrong("messages", messages, "a list");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    TRY_STATUS(check_message(messages[i], where, rules));
  }
  return check_tools(field_of(request, "tools"), "tools");
}

Result<Thinking> read_thinking(const Json& request) {
  Thinking thinking;
  const Json& more = field_of(request, "chat_template_kwargs");
  if (!more.is_null() && !more.is_object()) return wrong("chat_template_kwargs", more, "an object");
  for (const auto& [object, where] :
       {std::pair(&request, std::string()), std::pair(&more, std::string("chat_template_kwargs."))}) {
    if (object->is_null()) continue;
    TRY_STATUS(read_switch(*object, where, thinking));
    TRY_STATUS(read_effort(field_of(*object, "reasoning_effort"), where + "reasoning_effort", thinking));
  }
  return thinking;
}

}  // namespace fettle
