#include "text/formats/self_test.h"

#include <fmt/format.h>

#include <algorithm>

namespace fettle {
namespace {

constexpr const char* kText = "Blue — or ‘azure’, 蓝色 \U0001F535 < & \"\\n\".";
constexpr const char* kReason = "The sky: 1 < 2, \"é\" 想 and so on.";

const Json& tool() {
  static const Json kTool = {
      {"type", "function"},
      {"function",
       {{"name", "paint"},
        {"description", "Paints a wall"},
        {"parameters",
         {{"type", "object"},
          {"properties", {{"colour", {{"type", "string"}}}, {"coats", {{"type", "integer"}}}}}}}}}};
  return kTool;
}

Json arguments() {
  return {{"colour", "bleu é \"蓝\"\n<b>"}, {"coats", 2}, {"mix", {{"white", 0.5}, {"new", true}}}};
}

Json asked() {
  return {{{"role", "system"}, {"content", "S."}}, {{"role", "user"}, {"content", "Name a colour, ü 颜色?"}}};
}

// One piece for each character, the hardest split that a server sends.
ParsedReply read_slowly(const ChatFormat& format, std::string_view prompt, std::string_view reply) {
  const auto parser = format.parser({.prompt = prompt});
  ParsedReply read;
  for (const char byte : reply) read.add(parser->feed(std::string_view(&byte, 1)));
  read.add(parser->finish());
  return read;
}

std::string common_start(const std::string& a, const std::string& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  if (end == a.end()) return a;
  const std::string start(a.begin(), end);
  return start.substr(0, start.find_last_of(">\n") + 1);  // two tags may begin alike
}

// The answer as the format writes it into a prompt: what `with` has after the head of the assistant's turn.
struct Written {
  std::string prompt, reply;
};
Written written_answer(const std::string& before, const std::string& opened, const std::string& with) {
  Written written;
  written.prompt = common_start(opened, with);
  if (written.prompt.size() < before.size()) return {};
  written.reply = with.substr(written.prompt.size());
  return written;
}

class SelfTest {
 public:
  SelfTest(const ChatFormat& format, const Tokenizer& tokenizer) : format_(format), tokenizer_(tokenizer) {}

  Result<FormatCheck> run() {
    TRY(const std::string prompt, render(asked(), false, true));
    std::string wrong = chat();
    if (wrong.empty()) wrong = reasoning(prompt);
    if (wrong.empty()) wrong = calls();
    check_.passed = wrong.empty();
    check_.detail = !wrong.empty()
                        ? wrong
                        : fmt::format(
                              "chat format {}: a conversation of {} tokens decodes without change; "
                              "reasoning {}; tool calls {}",
                              format_.id(), tokens_, check_.reasoning ? "read back" : "not part of it",
                              check_.calls ? "read back" : "not part of its template");
    return check_;
  }

 private:
  Result<std::string> render(const Json& messages, bool tools, bool generate) const {
    Json request = {{"messages", messages}};
    if (tools) request["tools"] = Json::array({tool()});
    return format_.render(request, {.add_generation_prompt = generate, .from_api = true});
  }

  // The answer appears in the next prompt, and the prompt survives its tokens.
  std::string chat() {
    Json messages = asked();
    messages.push_back({{"role", "assistant"}, {"content", kText}});
    messages.push_back({{"role", "user"}, {"content", "Another, bitte?"}});
    const auto prompt = render(messages, false, true);
    if (!prompt.ok()) return prompt.error().message();
    for (const char* part : {kText, "Another, bitte?"}) {
      if (prompt.value().find(part) == std::string::npos)
        return fmt::format("the rendered conversation lacks \"{}\"", part);
    }
    const auto ids = tokenizer_.encode(prompt.value(), false);
    if (!ids.ok()) return ids.error().message();
    tokens_ = ids.value().size();
    const auto back = tokenizer_.decode(ids.value(), false);
    if (!back.ok()) return back.error().message();
    return back.value() == prompt.value() ? "" : "the rendered prompt changes when tokenised and decoded";
  }

  // As the model would answer: inside the reasoning that the prompt opened, or opening it itself.
  std::string reasoning(const std::string& prompt) {
    const bool can = prompt.find("think>") != std::string::npos || tokenizer_.token_id("<think>");
    if (!can) return "";
    const bool inside = read_slowly(format_, prompt, "x").content.empty();
    const std::string reply = fmt::format("{}{}</think>{}", inside ? "" : "<think>", kReason, kText);
    const ParsedReply read = read_slowly(format_, prompt, reply);
    if (read.reasoning != kReason || read.content != kText || !read.calls.empty())
      return fmt::format("reasoning \"{}\" and answer \"{}\" were read as \"{}\" and \"{}\"", kReason, kText,
                         read.reasoning, read.content);
    check_.reasoning = true;
    return "";
  }

  // A call as the template writes it is what the model writes: it must be read as that call.
  std::string calls() {
    const Json call = {{"id", "call00000"},
                       {"type", "function"},
                       {"function", {{"name", "paint"}, {"arguments", dump_json(arguments(), -1)}}}};
    Json messages = asked();
    const auto before = render(messages, true, false);
    const auto opened = render(messages, true, true);
    messages.push_back({{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}});
    const auto with = render(messages, true, false);
    if (!before.ok() || !opened.ok() || !with.ok()) return "";
    const Written written = written_answer(before.value(), opened.value(), with.value());
    if (written.reply.find("paint") == std::string::npos) return "";
    const ParsedReply read = read_slowly(format_, written.prompt, written.reply);
    if (read.calls.size() != 1 || !read.errors.empty())
      return fmt::format("a tool call was written but not read back{}{}", read.errors.empty() ? "" : ": ",
                         fmt::join(read.errors, "; "));
    const auto got = parse_json(read.calls[0].arguments, "arguments");
    if (read.calls[0].name != "paint" || !got.ok() || got.value() != arguments())
      return fmt::format("the call paint({}) was read back as {}({})", dump_json(arguments(), -1),
                         read.calls[0].name, read.calls[0].arguments);
    check_.calls = true;
    return "";
  }

  const ChatFormat& format_;
  const Tokenizer& tokenizer_;
  FormatCheck check_;
  size_t tokens_ = 0;
};

}  // namespace

Result<FormatCheck> test_chat_format(const ChatFormat& format, const Tokenizer& tokenizer) {
  return SelfTest(format, tokenizer).run();
}

}  // namespace fettle
