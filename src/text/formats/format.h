// A chat format: how a conversation becomes a prompt, and how a reply that arrives in pieces becomes
// reasoning, content and tool calls again. One file a format beside this one, listed in list.inc. The id is
// all that serving reads: a file `chat_format` among the text files names it; without that file it is found
// from the others (template, tokenizer, model_type).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/text.h"

namespace fettle {

struct RenderOptions {
  bool add_generation_prompt = true;  // open the assistant's turn after the last message
  // The messages came from an API client. What the format cannot take as the client is free to send it
  // (arguments as text or object, content as parts or missing, a developer message) is put into the form that
  // it can. Otherwise the messages are rendered as they are.
  bool from_api = false;
};

struct ReplyEvent {
  enum class Kind { kReasoning, kContent, kCallBegin, kCallArguments, kCallEnd, kMalformed };
  Kind kind = Kind::kContent;
  std::string text{};  // the next piece of reasoning, content, arguments or malformed text: whole characters
  int call = -1;       // which call, counted from 0; kMalformed: the begun call that it takes back, or -1
  std::string id{}, name{};  // kCallBegin
  std::string error{};       // kMalformed: what is wrong; empty where an earlier piece said it
  bool operator==(const ReplyEvent&) const = default;
};

// Reads one reply. However the text is split, the pieces of each kind join to the same texts. Nothing is
// lost: a call that turns out malformed comes as kMalformed with its whole text, to be shown as content, and
// reading goes on after it.
class ReplyParser {
 public:
  virtual ~ReplyParser() = default;
  virtual std::vector<ReplyEvent> feed(std::string_view text) = 0;
  virtual std::vector<ReplyEvent> finish() = 0;  // the reply ended, at an end token or a limit
};

struct ParserStart {
  std::string_view prompt{};  // rendered; decides whether the reply begins inside reasoning
  bool calls = true;          // false: no tools were offered, so markup of calls is content
  std::string call_id_prefix = "call_";
};

// What a reply comes to.
struct ParsedReply {
  struct Call {
    int number = 0;
    std::string id, name, arguments;  // arguments: the text of a JSON object
  };
  std::string reasoning, content;
  std::vector<Call> calls;
  std::vector<std::string> errors;  // one a malformed call; its text is in `content`

  void add(const std::vector<ReplyEvent>& events);
  // {"role": "assistant", "content", "reasoning_content" and "tool_calls" where there are any}
  Json message() const;
};

// Immutable and safe to share between threads.
class ChatFormat {
 public:
  virtual ~ChatFormat() = default;
  virtual std::string_view id() const = 0;
  // request: {"messages": [...]}, beside it "tools", the thinking switches and any template variable. Errors
  // name the message and the field.
  virtual Result<std::string> render(const Json& request, const RenderOptions& options) const = 0;
  virtual std::unique_ptr<ReplyParser> parser(const ParserStart& start) const = 0;
  // The tags that the parser reads; a decoder that leaves out special tokens keeps these.
  virtual std::vector<std::string> markup() const = 0;
};

// kUnsupported: the model has neither a chat template nor a format of its own.
Result<std::shared_ptr<const ChatFormat>> load_chat_format(const TextFiles& files);

// Writes the found id into `files`, for an artifact to keep. Without a chat format nothing changes.
Status settle_chat_format(TextFiles* files);

std::vector<std::string> chat_format_ids();

// A whole reply at once.
ParsedReply parse_reply(const ChatFormat& format, const ParserStart& start, std::string_view text);

}  // namespace fettle
