// How every format's reply is read: reasoning between its tags, then content, in which a CallReader
// recognises the format's tool calls. What may still become a tag is held back until it is decided, so
// decisions depend on the text alone, never on how it was split. For this folder.
#pragma once

#include <optional>
#include <span>

#include "text/formats/format.h"

namespace fettle {

using Tags = std::span<const std::string_view>;

// The text that has arrived and is not yet decided.
struct Arrived {
  std::string text;
  bool last = false;  // nothing follows

  std::string take(size_t size);
  // The first place where one of the tags stands. Without one, `at` is where text begins that may still
  // become one: all before it is decided.
  struct Found {
    size_t at = 0;
    std::optional<size_t> tag;
  };
  Found find(Tags tags) const;
  // The tag that the text begins with.
  std::optional<size_t> begins_with(Tags tags) const;
  // More text is needed to say whether it begins with one of them.
  bool may_begin_with(Tags tags) const;
  size_t leading_space() const;
};

// Writes events and keeps the text of the call that is being read, for the case that it breaks.
class EventWriter {
 public:
  explicit EventWriter(std::string call_id_prefix) : id_prefix_(std::move(call_id_prefix)) {}

  void reasoning(std::string text) { piece(ReplyEvent::Kind::kReasoning, std::move(text), -1); }
  void content(std::string text) { piece(ReplyEvent::Kind::kContent, std::move(text), -1); }

  // Text that belongs to markup and calls: it is written only if the call breaks.
  void markup(std::string_view text) { markup_ += text; }
  void drop_markup() { markup_.clear(); }
  std::string take_markup() { return std::exchange(markup_, {}); }

  void begin_call(std::string name);
  void arguments(std::string text) { piece(ReplyEvent::Kind::kCallArguments, std::move(text), call_); }
  void end_call();
  // Takes back the begun call, if any, and hands on its text.
  void malformed(std::string error);
  void more_malformed(std::string text) { piece(ReplyEvent::Kind::kMalformed, std::move(text), -1); }

  std::vector<ReplyEvent> take() { return std::exchange(events_, {}); }

 private:
  void piece(ReplyEvent::Kind kind, std::string text, int call);

  std::string id_prefix_, markup_;
  std::vector<ReplyEvent> events_;
  int call_ = -1, next_call_ = 0;
};

// Reads one format's calls, from a tag that opens them to where content goes on.
class CallReader {
 public:
  virtual ~CallReader() = default;
  virtual Tags openers() const = 0;                     // anywhere in the content
  virtual Tags start_openers() const { return {}; }     // only where the content begins
  virtual void open(size_t opener, bool at_start) = 0;  // the writer has its text as markup
  enum class Step { kAgain, kMoreText, kDone };
  // Takes what is decided from the front of `in`. With in.last it takes all and then says kDone.
  virtual Step step(Arrived& in, EventWriter& out) = 0;
};

struct ReasoningTags {
  std::string_view open = "<think>", close = "</think>";
};

// calls: null if the reply has none to recognise.
std::unique_ptr<ReplyParser> make_reply_parser(const ParserStart& start, std::unique_ptr<CallReader> calls);

}  // namespace fettle
