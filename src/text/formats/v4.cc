// DeepSeek-V4, which ships an encoder instead of a template. Tool results and consecutive user messages
// become one user turn; reasoning before the last user turn is dropped unless any message defines tools; a
// task writes its token in place of the assistant's turn.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "text/formats/dsml.h"
#include "text/formats/entry.h"
#include "text/formats/request.h"
#include "text/json_text.h"

namespace fettle {
namespace {

constexpr std::string_view kId = "v4";
constexpr std::string_view kBlock = "tool_calls";
constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
constexpr std::string_view kReminder = "<｜latest_reminder｜>";
constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool", "latest_reminder"};
constexpr std::pair<std::string_view, std::string_view> kTasks[] = {
    {"action", "<｜action｜>"}, {"query", "<｜query｜>"}, {"authority", "<｜authority｜>"},
    {"domain", "<｜domain｜>"}, {"title", "<｜title｜>"}, {"read_url", "<｜read_url｜>"}};

constexpr std::string_view kMostEffort =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the "
    "root "
    "cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial "
    "scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, considered "
    "alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n";

constexpr std::string_view kToolsBefore =
    "\n\n## Tools\n\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "
    "\"<｜DSML｜tool_calls>\" block like the following:\n\n"
    "<｜DSML｜tool_calls>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types (numbers, "
    "booleans, arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside "
    "<think>...</think> BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"
    "### Available Tool Schemas\n\n";
constexpr std::string_view kToolsAfter =
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n";

struct Block {
  std::string text;
  bool result = false;  // of a tool
  std::string call;     // whose result it is
};

// A message as the encoder sees it: tool messages have become blocks of user turns.
struct Turn {
  std::string role{}, where{}, text{}, task{};
  std::vector<Block> blocks{};  // of a user turn
  Json message = Json::object();
  bool reasoning = true;
};

bool is_user(const Turn& turn) { return turn.role == "user" || turn.role == "developer"; }

Result<std::string> task_of(const Json& message, const std::string& where) {
  const Json& task = field_of(message, "task");
  if (task.is_null()) return std::string();
  for (const auto& [name, token] : kTasks) {
    if (task == name) return std::string(name);
  }
  return bad_input("{}.task is {}, expected action, query, authority, domain, title or read_url", where,
                   task.is_string() ? json_string(task.get<std::string>()) : task.type_name());
}

Result<std::vector<Turn>> turns_of(const PreparedMessages& prepared) {
  const Json& messages = prepared.messages;
  std::vector<Turn> turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    Turn turn{.role = text_of(message, "role"),
              .where = fmt::format("messages[{}]", i - prepared.made),
              .message = message};
    TRY(turn.text, content_text(message, turn.where));
    TRY(turn.task, task_of(message, turn.where));
    if (turn.role == "developer" && turn.text.empty())
      return bad_input("{}.content is empty, expected text: a developer message needs it", turn.where);
    const bool result = turn.role == "tool";
    if (!result && turn.role != "user") {
      turns.push_back(std::move(turn));
      continue;
    }
    const Block block{turn.text, result, text_of(message, "tool_call_id")};
    const bool joins = !turns.empty() && turns.back().role == "user" && (result || turns.back().task.empty());
    if (!joins) {
      turn.role = "user";
      if (result) turn.task.clear();
      turns.push_back(std::move(turn));
    }
    turns.back().blocks.push_back(block);
  }
  return turns;
}

// Results of one turn stand in the order of the calls that asked for them.
void order_results(std::vector<Turn>& turns) {
  std::map<std::string, size_t> place;
  for (Turn& turn : turns) {
    const Json& calls = field_of(turn.message, "tool_calls");
    if (turn.role == "assistant" && !calls.empty()) {
      place.clear();
      for (size_t i = 0; i < calls.size(); ++i) {
        if (const std::string id = text_of(calls[i], "id"); !id.empty()) place[id] = i;
      }
    }
    std::vector<Block> results;
    std::copy_if(turn.blocks.begin(), turn.blocks.end(), std::back_inserter(results),
                 [](const Block& block) { return block.result; });
    const auto place_of = [&](const Block& block) {
      const auto found = place.find(block.call);
      return found == place.end() ? 0 : found->second;
    };
    std::stable_sort(results.begin(), results.end(),
                     [&](const Block& a, const Block& b) { return place_of(a) < place_of(b); });
    auto next = results.begin();
    for (Block& block : turn.blocks) {
      if (block.result) block = *next++;
    }
  }
}

size_t last_user(const std::vector<Turn>& turns) {
  for (size_t i = turns.size(); i > 0; --i) {
    if (is_user(turns[i - 1])) return i - 1;
  }
  return turns.size();
}

// Before the last user turn, reasoning goes and developer messages with it.
void drop_reasoning(std::vector<Turn>& turns) {
  const size_t last = last_user(turns);
  if (last == turns.size()) return;
  for (size_t i = 0; i < last; ++i) turns[i].reasoning = false;
  std::erase_if(turns, [&](const Turn& turn) { return turn.role == "developer" && !turn.reasoning; });
}

class Encoder {
 public:
  Encoder(std::vector<Turn> turns, bool thinking) : turns_(std::move(turns)), thinking_(thinking) {}

  void drop() { drop_reasoning(turns_); }

  std::string prompt(bool most_effort, bool generate) const {
    std::string text(kBos);
    if (thinking_ && most_effort) text += kMostEffort;
    for (size_t i = 0; i < turns_.size(); ++i) {
      text += body(i);
      const bool last = i + 1 == turns_.size();
      if (last ? generate : turns_[i + 1].role == "assistant" || turns_[i + 1].role == "latest_reminder")
        text += tail(turns_[i]);
    }
    return text;
  }

 private:
  std::string body(size_t i) const {
    const Turn& turn = turns_[i];
    if (turn.role == "latest_reminder") return std::string(kReminder) + turn.text;
    if (turn.role == "assistant") return answer(i);
    std::string text(is_user(turn) ? kUser : "");
    if (turn.role != "user") return text + turn.text + sections(turn.message);
    for (const Block& block : turn.blocks) {
      text += &block == &turn.blocks.front() ? "" : "\n\n";
      text += block.result ? "<tool_result>" + block.text + "</tool_result>" : block.text;
    }
    return text;
  }

  static std::string sections(const Json& message) {
    std::string text;
    if (const Json& tools = field_of(message, "tools"); !tools.empty())
      text += std::string(kToolsBefore) + tool_schemas(tools) + std::string(kToolsAfter);
    if (const Json& schema = field_of(message, "response_format"); !schema.empty())
      text += response_format_text(schema);
    return text;
  }

  // After a task there is neither reasoning nor its closing tag: the task's own tail wrote one.
  std::string answer(size_t i) const {
    const Turn& turn = turns_[i];
    std::string text;
    const bool after_task = i > 0 && !turns_[i - 1].task.empty();
    if (thinking_ && turn.reasoning && !after_task)
      text += text_of(turn.message, "reasoning_content") + "</think>";
    text += turn.text;
    if (const Json& calls = field_of(turn.message, "tool_calls"); !calls.empty())
      text += dsml_calls(calls, kBlock);
    if (field_of(turn.message, "wo_eos") != true) text += kEos;
    return text;
  }

  // What opens the assistant's turn, or asks for a task.
  std::string tail(const Turn& turn) const {
    const auto opened = [&](bool thinks) {
      return std::string(kAssistant) + (thinks ? "<think>" : "</think>");
    };
    for (const auto& [name, token] : kTasks) {
      if (turn.task == name) return (name == "action" ? opened(thinking_) : "") + std::string(token);
    }
    return is_user(turn) ? opened(thinking_ && turn.reasoning) : "";
  }

  std::vector<Turn> turns_;
  bool thinking_;
};

class Format final : public ChatFormat {
 public:
  std::string_view id() const override { return kId; }

  Result<std::string> render(const Json& request, const RenderOptions& options) const override {
    TRY_STATUS(check_request(request, {.roles = kRoles}));
    TRY(const Thinking thinking, read_thinking(request));
    TRY(const bool drop, JsonReader(request, "the request").boolean_or("drop_thinking", true));
    const PreparedMessages prepared = with_request_tools(request);
    const bool tools = std::any_of(prepared.messages.begin(), prepared.messages.end(),
                                   [](const Json& message) { return !field_of(message, "tools").empty(); });
    TRY(std::vector<Turn> turns, turns_of(prepared));
    order_results(turns);
    const bool thinks = thinking.on.value_or(true);
    Encoder encoder(std::move(turns), thinks);
    if (thinks && drop && !tools) encoder.drop();
    return encoder.prompt(thinking.effort == "max", options.add_generation_prompt);
  }

  std::unique_ptr<ReplyParser> parser(const ParserStart& start) const override {
    return make_reply_parser(start, make_dsml_call_reader(kBlock));
  }

  std::vector<std::string> markup() const override { return dsml_markup(); }
};

}  // namespace

FormatEntry chat_format_v4() {
  return {kId,
          [](const FormatHints& hints) {
            return hints.chat_template.empty() &&
                   (hints.model_type == "deepseek_v4" || hints.model_type == "deepseek4" ||
                    hints.has_token(kReminder) || hints.has_token("<｜action｜>"));
          },
          [](const TextFiles&) -> Result<std::shared_ptr<const ChatFormat>> {
            return std::shared_ptr<const ChatFormat>(new Format);
          }};
}

}  // namespace fettle
