#include "text/formats/dsml.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/formats/call_text.h"
#include "text/formats/request.h"
#include "text/json_text.h"

namespace fettle {
namespace {

constexpr std::string_view kOpenInvoke = "<｜DSML｜invoke";
constexpr std::string_view kCloseInvoke = "</｜DSML｜invoke>";
constexpr std::string_view kOpenParameter = "<｜DSML｜parameter";
constexpr std::string_view kCloseParameter = "</｜DSML｜parameter>";
constexpr std::string_view kAttributesEnd[] = {"\">"};
constexpr std::string_view kInsideInvoke[] = {kOpenParameter, kCloseInvoke};

std::string open_block(std::string_view block) { return fmt::format("<｜DSML｜{}>", block); }
std::string close_block(std::string_view block) { return fmt::format("</｜DSML｜{}>", block); }

Json arguments_of(const Json& call) {
  const Json& arguments = call["function"]["arguments"];
  if (arguments.is_object()) return arguments;
  const auto parsed = parse_json(arguments.get_ref<const std::string&>(), "arguments");
  return parsed.ok() && parsed.value().is_object() ? parsed.value() : Json{{"arguments", arguments}};
}

class DsmlCallReader final : public CallReader {
 public:
  explicit DsmlCallReader(std::string_view block)
      : open_block_(open_block(block)), close_block_(close_block(block)), spaced_("\n\n" + open_block_) {}

  Tags openers() const override { return openers_; }

  void open(size_t, bool) override {
    calls_ = 0;
    place_ = Place::kBlock;
  }

  Step step(Arrived& in, EventWriter& out) override {
    switch (place_) {
      case Place::kBlock:
        return block(in, out);
      case Place::kInvokeTag:
        return invoke_tag(in, out);
      case Place::kInvoke:
        return invoke(in, out);
      case Place::kParameterTag:
        return parameter_tag(in, out);
      case Place::kValue:
        return value(in, out);
      case Place::kBroken:
        return broken(in, out);
    }
    return Step::kDone;
  }

 private:
  enum class Place { kBlock, kInvokeTag, kInvoke, kParameterTag, kValue, kBroken };

  Step breaks(EventWriter& out, std::string error) {
    ++calls_;
    out.malformed("tool call: " + std::move(error));
    place_ = Place::kBroken;
    return Step::kAgain;
  }

  Step go(Place place) {
    place_ = place;
    return Step::kAgain;
  }

  Step block(Arrived& in, EventWriter& out) {
    const std::string_view tags[] = {kOpenInvoke, close_block_};
    out.markup(in.take(in.leading_space()));
    const auto tag = in.begins_with(tags);
    if (tag) out.markup(in.take(tags[*tag].size()));
    if (tag == 0) return go(Place::kInvokeTag);
    if (tag == 1 || (in.text.empty() && in.last)) {
      if (calls_ == 0) out.malformed("tool calls: found the end, expected a call");
      out.drop_markup();
      return Step::kDone;
    }
    if (in.text.empty() || in.may_begin_with(tags)) return Step::kMoreText;
    return breaks(out, "found text, expected a call or the end of the calls");
  }

  // What stands between the tag's name and its end, with the last quote; nothing yet if it has not arrived.
  std::optional<std::string> attributes(Arrived& in, EventWriter& out) {
    const auto found = in.find(kAttributesEnd);
    if (!found.tag || found.at > kLongestHeader) return std::nullopt;
    std::string text = in.take(found.at) + "\"";
    out.markup(text + ">");
    in.take(2);
    return text;
  }

  Step wait_for_attributes(Arrived& in, EventWriter& out) {
    if (!in.last && in.find(kAttributesEnd).at <= kLongestHeader) return Step::kMoreText;
    return breaks(out, "a tag does not end");
  }

  Step invoke_tag(Arrived& in, EventWriter& out) {
    const auto text = attributes(in, out);
    if (!text) return wait_for_attributes(in, out);
    constexpr std::string_view kName = " name=\"";
    std::string name;
    if (text->starts_with(kName))
      name = call_name(text->substr(kName.size(), text->size() - kName.size() - 1));
    if (name.empty() || name.find('"') != std::string::npos) return breaks(out, "its tag has no name");
    out.begin_call(std::move(name));
    parameters_.clear();
    return go(Place::kInvoke);
  }

  Step invoke(Arrived& in, EventWriter& out) {
    out.markup(in.take(in.leading_space()));
    const auto tag = in.begins_with(kInsideInvoke);
    if (tag) out.markup(in.take(kInsideInvoke[*tag].size()));
    if (tag == 0) return go(Place::kParameterTag);
    if (tag == 1) {
      out.arguments(parameters_.empty() ? "{}" : "}");
      out.end_call();
      ++calls_;
      return go(Place::kBlock);
    }
    if (!in.last && (in.text.empty() || in.may_begin_with(kInsideInvoke))) return Step::kMoreText;
    return breaks(out, in.text.empty() ? "the reply ends inside it"
                                       : "found text, expected a parameter or the end of the call");
  }

  Step parameter_tag(Arrived& in, EventWriter& out) {
    const auto text = attributes(in, out);
    if (!text) return wait_for_attributes(in, out);
    constexpr std::string_view kName = " name=\"", kString = "\" string=\"true\"",
                               kJson = "\" string=\"false\"";
    string_ = text->ends_with(kString);
    if (!text->starts_with(kName) || !(string_ || text->ends_with(kJson)))
      return breaks(out, "a parameter's tag is not name=\"...\" string=\"true|false\"");
    const size_t tail = string_ ? kString.size() : kJson.size();
    if (text->size() < kName.size() + tail) return breaks(out, "a parameter has no name");
    const std::string name = text->substr(kName.size(), text->size() - kName.size() - tail);
    if (std::find(parameters_.begin(), parameters_.end(), name) != parameters_.end())
      return breaks(out, "a parameter is given twice");
    out.arguments((parameters_.empty() ? "{" : ", ") + json_string(name) + ": " + (string_ ? "\"" : ""));
    parameters_.push_back(name);
    scanner_ = {};
    value_started_ = false;
    return go(Place::kValue);
  }

  Step value(Arrived& in, EventWriter& out) {
    const std::string_view tags[] = {kCloseParameter, kOpenParameter, kCloseInvoke, kOpenInvoke,
                                     close_block_};
    const auto found = in.find(tags);
    const std::string text = in.take(found.at);
    out.markup(text);
    if (string_)
      out.arguments(json_escaped(text));
    else if (!json_value(text, out))
      return breaks(out, "a parameter that is no string is not JSON");
    if (!found.tag) return in.last ? breaks(out, "the reply ends inside it") : Step::kMoreText;
    if (found.tag != 0) return breaks(out, "the end of a parameter is missing");
    out.markup(in.take(kCloseParameter.size()));
    if (string_) out.arguments("\"");
    scanner_.finish();
    if (!string_ && !scanner_.complete()) return breaks(out, "a parameter that is no string is not JSON");
    return go(Place::kInvoke);
  }

  // Space around the value is left out.
  bool json_value(std::string_view text, EventWriter& out) {
    const size_t space = std::min(text.find_first_not_of(" \t\r\n"), text.size());
    if (!value_started_) text.remove_prefix(space);
    if (text.empty()) return true;
    value_started_ = true;
    const size_t size = scanner_.feed(text);
    out.arguments(std::string(text.substr(0, size)));
    return text.substr(size).find_first_not_of(" \t\r\n") == std::string_view::npos && !scanner_.wrong();
  }

  // Up to where the next call may begin.
  Step broken(Arrived& in, EventWriter& out) {
    const std::string_view tags[] = {kCloseInvoke, kOpenInvoke, close_block_};
    const auto found = in.find(tags);
    out.more_malformed(in.take(found.at));
    if (found.tag == 0) out.more_malformed(in.take(kCloseInvoke.size()));
    if (found.tag) return go(Place::kBlock);
    return in.last ? Step::kDone : Step::kMoreText;
  }

  const std::string open_block_, close_block_, spaced_;
  const std::string_view openers_[2] = {spaced_, open_block_};
  Place place_ = Place::kBlock;
  int calls_ = 0;                        // read so far, whole or not
  std::vector<std::string> parameters_;  // of this call
  bool string_ = false;                  // the parameter is a string
  bool value_started_ = false;
  JsonScanner scanner_;
};

}  // namespace

std::string dsml_calls(const Json& calls, std::string_view block) {
  std::string text = "\n\n" + open_block(block) + "\n";
  for (const Json& call : calls) {
    text += fmt::format("{} name=\"{}\">\n", kOpenInvoke, call["function"]["name"].get<std::string>());
    bool first = true;
    const Json arguments = arguments_of(call);
    for (const auto& [name, value] : arguments.items()) {
      text += fmt::format("{}{} name=\"{}\" string=\"{}\">{}{}", first ? "" : "\n", kOpenParameter, name,
                          value.is_string(),
                          value.is_string() ? value.get<std::string>() : python_json(value), kCloseParameter);
      first = false;
    }
    text += fmt::format("\n{}\n", kCloseInvoke);
  }
  return text + close_block(block);
}

std::unique_ptr<CallReader> make_dsml_call_reader(std::string_view block) {
  return std::make_unique<DsmlCallReader>(block);
}

std::vector<std::string> dsml_markup() { return {"<think>", "</think>", "｜DSML｜"}; }

PreparedMessages with_request_tools(const Json& request) {
  PreparedMessages prepared{.messages = request["messages"]};
  Json& messages = prepared.messages;
  const Json& tools = field_of(request, "tools");
  Json schema = field_of(request, "response_format");
  if (schema.is_object()) {
    const std::string type = text_of(schema, "type");
    // The two that carry no schema are for the sampler, not for the prompt.
    if (type == "text" || type == "json_object") schema = nullptr;
    if (type == "json_schema") schema = Json(field_of(field_of(schema, "json_schema"), "schema"));
  }
  if (tools.empty() && schema.empty()) return prepared;
  auto system = std::find_if(messages.begin(), messages.end(),
                             [](const Json& message) { return message["role"] == "system"; });
  if (system == messages.end()) {
    system = messages.insert(messages.begin(), Json{{"role", "system"}, {"content", ""}});
    prepared.made = 1;
  }
  for (const Json& tool : tools) (*system)["tools"].push_back(tool);
  if (!schema.empty()) (*system)["response_format"] = schema;
  return prepared;
}

std::string tool_schemas(const Json& tools) {
  std::string lines;
  for (const Json& tool : tools) lines += (lines.empty() ? "" : "\n") + python_json(tool["function"]);
  return lines;
}

std::string response_format_text(const Json& schema) {
  return "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n" +
         python_json(schema);
}

Result<std::string> content_text(const Json& message, const std::string& where) {
  const Json& content = field_of(message, "content");
  if (!content.is_array()) return text_of(message, "content");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string type = text_of(content[i], "type");
    if (type != "text" && text_of(message, "role") != "tool")
      return unsupported("{}.content[{}] is of type \"{}\", expected \"text\"", where, i, type);
    text += i > 0 ? "\n\n" : "";
    text += type == "text" ? text_of(content[i], "text") : fmt::format("[Unsupported {}]", type);
  }
  return text;
}

}  // namespace fettle
