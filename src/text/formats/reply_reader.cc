#include "text/formats/reply_reader.h"

#include <algorithm>

#include "text/utf8.h"

namespace fettle {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kReasoningOpen[] = {"<think>"};
constexpr std::string_view kReasoningClose[] = {"</think>"};

// The length of the longest end of `text` that is a beginning of `tag`.
size_t open_end(std::string_view text, std::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (tag.starts_with(text.substr(text.size() - size))) return size;
  }
  return 0;
}

// Only a tag that ends the prompt opens the reply: one inside an earlier message is somebody's text.
bool ends_inside_reasoning(std::string_view prompt) {
  const size_t end = prompt.find_last_not_of(kSpace);
  return end != std::string_view::npos && prompt.substr(0, end + 1).ends_with(kReasoningOpen[0]);
}

class ReplyReader final : public ReplyParser {
 public:
  ReplyReader(const ParserStart& start, std::unique_ptr<CallReader> calls)
      : out_(start.call_id_prefix),
        calls_(std::move(calls)),
        place_(ends_inside_reasoning(start.prompt) ? Place::kReasoning : Place::kStart) {}

  std::vector<ReplyEvent> feed(std::string_view text) override {
    bytes_ += text;
    in_.text += take_characters(bytes_);
    return read();
  }

  std::vector<ReplyEvent> finish() override {
    if (!bytes_.empty()) in_.text += kReplacement;
    bytes_.clear();
    in_.last = true;
    return read();
  }

 private:
  // kStart: no visible content so far, so reasoning may open.
  enum class Place { kStart, kReasoning, kContent, kCalls };

  std::vector<ReplyEvent> read() {
    while (place_ == Place::kCalls || !in_.text.empty()) {
      if (!step()) break;
    }
    return out_.take();
  }

  // False: more text is needed.
  bool step() {
    switch (place_) {
      case Place::kStart:
        return step_start();
      case Place::kReasoning:
        return step_reasoning();
      case Place::kContent:
        return step_content();
      case Place::kCalls:
        const auto step = calls_->step(in_, out_);
        if (step == CallReader::Step::kDone) place_ = Place::kContent;
        return step != CallReader::Step::kMoreText;
    }
    return false;
  }

  bool step_start() {
    const Tags openers = calls_ ? calls_->openers() : Tags{};
    if (open_call(openers, false)) return true;
    if (in_.may_begin_with(openers)) return false;  // an opener may begin with a newline
    if (const size_t space = std::min<size_t>(in_.leading_space(), 1); space > 0) {
      out_.content(in_.take(space));
      return true;
    }
    if (in_.begins_with(kReasoningOpen)) {
      in_.take(kReasoningOpen[0].size());
      place_ = Place::kReasoning;
      return true;
    }
    const Tags start_openers = calls_ ? calls_->start_openers() : Tags{};
    if (open_call(start_openers, true)) return true;
    if (in_.may_begin_with(kReasoningOpen) || in_.may_begin_with(start_openers)) return false;
    place_ = Place::kContent;
    return true;
  }

  bool open_call(Tags openers, bool at_start) {
    const auto opener = in_.begins_with(openers);
    if (!opener) return false;
    out_.markup(in_.take(openers[*opener].size()));
    calls_->open(*opener, at_start);
    place_ = Place::kCalls;
    return true;
  }

  bool step_reasoning() {
    const auto found = in_.find(kReasoningClose);
    out_.reasoning(in_.take(found.at));
    if (!found.tag) return false;
    in_.take(kReasoningClose[0].size());
    place_ = Place::kStart;
    return true;
  }

  bool step_content() {
    const Tags openers = calls_ ? calls_->openers() : Tags{};
    const auto found = in_.find(openers);
    out_.content(in_.take(found.at));
    return found.tag && open_call(openers, false);
  }

  EventWriter out_;
  std::unique_ptr<CallReader> calls_;
  Arrived in_;
  std::string bytes_;  // the start of a character
  Place place_;
};

}  // namespace

std::string Arrived::take(size_t size) {
  std::string taken = text.substr(0, size);
  text.erase(0, size);
  return taken;
}

Arrived::Found Arrived::find(Tags tags) const {
  Found found{text.size(), std::nullopt};
  for (size_t i = 0; i < tags.size(); ++i) {
    const size_t at = text.find(tags[i]);
    if (at < found.at) found = {at, i};
  }
  if (found.tag || last) return found;
  for (const std::string_view tag : tags) found.at = std::min(found.at, text.size() - open_end(text, tag));
  return found;
}

std::optional<size_t> Arrived::begins_with(Tags tags) const {
  for (size_t i = 0; i < tags.size(); ++i) {
    if (text.starts_with(tags[i])) return i;
  }
  return std::nullopt;
}

bool Arrived::may_begin_with(Tags tags) const {
  if (last) return false;
  return std::any_of(tags.begin(), tags.end(),
                     [&](std::string_view tag) { return tag.size() > text.size() && tag.starts_with(text); });
}

size_t Arrived::leading_space() const { return std::min(text.find_first_not_of(kSpace), text.size()); }

void EventWriter::piece(ReplyEvent::Kind kind, std::string text, int call) {
  if (text.empty()) return;
  if (!events_.empty() && events_.back().kind == kind && events_.back().call == call) {
    events_.back().text += text;
    return;
  }
  events_.push_back({.kind = kind, .text = std::move(text), .call = call});
}

void EventWriter::begin_call(std::string name) {
  call_ = next_call_++;
  events_.push_back({.kind = ReplyEvent::Kind::kCallBegin,
                     .call = call_,
                     .id = id_prefix_ + std::to_string(call_),
                     .name = std::move(name)});
}

void EventWriter::end_call() {
  events_.push_back({.kind = ReplyEvent::Kind::kCallEnd, .call = call_});
  call_ = -1;
  markup_.clear();
}

void EventWriter::malformed(std::string error) {
  events_.push_back({.kind = ReplyEvent::Kind::kMalformed,
                     .text = take_markup(),
                     .call = std::exchange(call_, -1),
                     .error = std::move(error)});
}

std::unique_ptr<ReplyParser> make_reply_parser(const ParserStart& start, std::unique_ptr<CallReader> calls) {
  return std::make_unique<ReplyReader>(start, start.calls ? std::move(calls) : nullptr);
}

}  // namespace fettle
