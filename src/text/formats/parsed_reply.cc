#include <algorithm>

#include "text/formats/format.h"

namespace fettle {

void ParsedReply::add(const std::vector<ReplyEvent>& events) {
  const auto call_of = [&](const ReplyEvent& event) {
    return std::find_if(calls.begin(), calls.end(),
                        [&](const Call& call) { return call.number == event.call; });
  };
  for (const ReplyEvent& event : events) {
    switch (event.kind) {
      case ReplyEvent::Kind::kReasoning:
        reasoning += event.text;
        break;
      case ReplyEvent::Kind::kContent:
        content += event.text;
        break;
      case ReplyEvent::Kind::kCallBegin:
        calls.push_back({.number = event.call, .id = event.id, .name = event.name, .arguments = {}});
        break;
      case ReplyEvent::Kind::kCallArguments:
        if (const auto call = call_of(event); call != calls.end()) call->arguments += event.text;
        break;
      case ReplyEvent::Kind::kCallEnd:
        break;
      case ReplyEvent::Kind::kMalformed:
        if (const auto call = call_of(event); call != calls.end()) calls.erase(call);
        content += event.text;
        if (!event.error.empty()) errors.push_back(event.error);
    }
  }
}

Json ParsedReply::message() const {
  Json message = {{"role", "assistant"}};
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  const bool only_calls = !calls.empty() && content.find_first_not_of(" \t\r\n") == std::string::npos;
  message["content"] = only_calls ? Json(nullptr) : Json(content);
  for (const Call& call : calls) {
    message["tool_calls"].push_back({{"id", call.id},
                                     {"type", "function"},
                                     {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return message;
}

ParsedReply parse_reply(const ChatFormat& format, const ParserStart& start, std::string_view text) {
  const auto parser = format.parser(start);
  ParsedReply reply;
  reply.add(parser->feed(text));
  reply.add(parser->finish());
  return reply;
}

}  // namespace fettle
