// DeepSeek-V3.2, which ships an encoder instead of a template. Reasoning before the last user turn is never
// rendered; the results of a turn's calls form one group after it, closed when there are as many as calls.
#include <fmt/format.h>

#include <algorithm>

#include "text/formats/dsml.h"
#include "text/formats/entry.h"
#include "text/formats/request.h"

namespace fettle {
namespace {

constexpr std::string_view kId = "v3.2";
constexpr std::string_view kBlock = "function_calls";
constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool"};

constexpr std::string_view kToolsBefore =
    "\n\n## Tools\n\n"
    "You have access to a set of tools you can use to answer the user's question.\n"
    "You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following as part of "
    "your "
    "reply to the user:\n"
    "<｜DSML｜function_calls>\n"
    "<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜function_calls>\n\n"
    "String and scalar parameters should be specified as is without any escaping or quotes, while lists and "
    "objects should use JSON format. The \"string\" attribute should be set to \"true\" for string type "
    "parameters "
    "and \"false\" for other types (numbers, booleans, arrays, objects).\n\n"
    "If the thinking_mode is enabled, then after function results you should strongly consider outputting a "
    "thinking block. Here is an example:\n\n"
    "<｜DSML｜function_calls>\n"
    "...\n"
    "</｜DSML｜function_calls>\n\n"
    "<function_results>\n"
    "...\n"
    "</function_results>\n\n"
    "<think>...thinking about results</think>\n\n"
    "Here are the functions available in JSONSchema format:\n"
    "<functions>\n";
constexpr std::string_view kToolsAfter = "\n</functions>\n";

struct Turn {
  std::string role, where, text;
  Json message = Json::object();
};

struct Switches {
  bool thinking = false, generate = true;
  // An answer that should have thought may come from a client that dropped the reasoning.
  bool lenient = false;
};

bool is_user(const Turn& turn) { return turn.role == "user" || turn.role == "developer"; }

Result<std::vector<Turn>> turns_of(const PreparedMessages& prepared) {
  const Json& messages = prepared.messages;
  std::vector<Turn> turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    Turn turn{text_of(messages[i], "role"), fmt::format("messages[{}]", i - prepared.made), {}, messages[i]};
    TRY(turn.text, content_text(turn.message, turn.where));
    if (turn.role == "developer" && turn.text.empty())
      return bad_input("{}.content is empty, expected text: a developer message needs it", turn.where);
    turns.push_back(std::move(turn));
  }
  return turns;
}

// -1 if there is none.
int64_t last_user(const std::vector<Turn>& turns) {
  for (size_t i = turns.size(); i > 0; --i) {
    if (is_user(turns[i - 1])) return static_cast<int64_t>(i) - 1;
  }
  return -1;
}

std::string sections(const Json& message) {
  std::string text;
  if (const Json& tools = field_of(message, "tools"); !tools.empty())
    text += std::string(kToolsBefore) + tool_schemas(tools) + std::string(kToolsAfter);
  if (const Json& schema = field_of(message, "response_format"); !schema.empty())
    text += response_format_text(schema);
  return text;
}

class Encoder {
 public:
  Encoder(std::vector<Turn> turns, Switches switches)
      : turns_(std::move(turns)), switches_(switches), last_user_(last_user(turns_)) {}

  Result<std::string> prompt() const {
    std::string text(kBos);
    for (size_t i = 0; i < turns_.size(); ++i) {
      TRY(const std::string turn, encoded(i));
      text += turn;
    }
    return text;
  }

 private:
  Result<std::string> encoded(size_t i) const {
    const Turn& turn = turns_[i];
    if (turn.role == "system") return turn.text + sections(turn.message);
    if (turn.role == "assistant") return answer(i);
    if (turn.role == "tool") return result(i);
    const std::string text = turn.role == "user"
                                 ? turn.text
                                 : sections(turn.message) + "\n\n# The user's message is: " + turn.text;
    return std::string(kUser) + text + opened(i, kAssistant);
  }

  bool thinks_at(size_t i) const { return switches_.thinking && static_cast<int64_t>(i) >= last_user_; }

  // What opens an answer after turn i.
  std::string opened(size_t i, std::string_view before) const {
    if (i + 1 == turns_.size() && !switches_.generate) return {};
    return std::string(before) + (thinks_at(i) ? "<think>" : "</think>");
  }

  Result<std::string> answer(size_t i) const {
    const Turn& turn = turns_[i];
    const Json& calls = field_of(turn.message, "tool_calls");
    const std::string reasoning = text_of(turn.message, "reasoning_content");
    std::string text;
    if (switches_.thinking && static_cast<int64_t>(i) > last_user_) {
      if (reasoning.empty() && calls.empty() && !switches_.lenient)
        return bad_input(
            "{}.reasoning_content is missing, expected text: with thinking on, an answer after the "
            "last user message has reasoning or calls",
            turn.where);
      text = reasoning + "</think>";
    }
    text += turn.text;
    if (!calls.empty()) text += dsml_calls(calls, kBlock);
    return text + std::string(kEos);
  }

  Result<std::string> result(size_t i) const {
    size_t caller = i;
    while (caller > 0 && turns_[caller].role == "tool") --caller;
    const size_t calls = field_of(turns_[caller].message, "tool_calls").size();
    const size_t order = i - caller;  // from 1
    if (turns_[caller].role != "assistant" || order > calls)
      return bad_input(
          "{} is a tool's result without a call: the assistant message before it has {} tool calls",
          turns_[i].where, turns_[caller].role == "assistant" ? calls : 0);
    std::string text = order == 1 ? "\n\n<function_results>" : "";
    text += "\n<result>" + turns_[i].text + "</result>";
    if (order == calls) text += "\n</function_results>" + opened(i, "\n\n");
    return text;
  }

  std::vector<Turn> turns_;
  Switches switches_;
  int64_t last_user_;
};

class Format final : public ChatFormat {
 public:
  std::string_view id() const override { return kId; }

  Result<std::string> render(const Json& request, const RenderOptions& options) const override {
    TRY_STATUS(check_request(request, {.roles = kRoles}));
    TRY(const Thinking thinking, read_thinking(request));
    TRY(const bool drop, JsonReader(request, "the request").boolean_or("drop_thinking", true));
    TRY(std::vector<Turn> turns, turns_of(with_request_tools(request)));
    const bool thinks = thinking.on.value_or(false);
    if (thinks && drop) {
      const int64_t last = last_user(turns);
      int64_t i = 0;
      std::erase_if(turns, [&](const Turn& turn) { return i++ < last && turn.role == "developer"; });
    }
    return Encoder(std::move(turns), {thinks, options.add_generation_prompt, options.from_api}).prompt();
  }

  std::unique_ptr<ReplyParser> parser(const ParserStart& start) const override {
    return make_reply_parser(start, make_dsml_call_reader(kBlock));
  }

  std::vector<std::string> markup() const override { return dsml_markup(); }
};

}  // namespace

FormatEntry chat_format_v3_2() {
  return {kId,
          [](const FormatHints& hints) {
            return hints.chat_template.empty() &&
                   (hints.model_type == "deepseek_v32" || hints.model_type == "deepseek32" ||
                    hints.has_token("｜DSML｜"));
          },
          [](const TextFiles&) -> Result<std::shared_ptr<const ChatFormat>> {
            return std::shared_ptr<const ChatFormat>(new Format);
          }};
}

}  // namespace fettle
