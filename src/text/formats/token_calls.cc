#include "text/formats/token_calls.h"

#include "text/formats/call_text.h"

namespace fettle {
namespace {

constexpr std::string_view kBeginCalls = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kEndCalls = "<｜tool▁calls▁end｜>";
constexpr std::string_view kBeginCall = "<｜tool▁call▁begin｜>";
constexpr std::string_view kEndCall = "<｜tool▁call▁end｜>";
constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
constexpr std::string_view kFence = "```json\n";

constexpr std::string_view kOpeners[] = {kBeginCalls, "\n<｜tool▁call▁begin｜>", kBeginCall};
constexpr std::string_view kBetween[] = {kBeginCall, kEndCalls};
// What ends a part of a call: the tag that should, or one that shows that it is missing.
constexpr std::string_view kAfterSeparated[] = {kSeparator, kEndCall, kBeginCall, kEndCalls};
constexpr std::string_view kAfterFenced[] = {kFence, kEndCall, kBeginCall, kEndCalls};
constexpr std::string_view kAfterArguments[] = {kEndCall, kBeginCall, kEndCalls};
constexpr size_t kLongestTail = 64;

class TokenCallReader final : public CallReader {
 public:
  explicit TokenCallReader(TokenCallStyle style) : style_(style) {}

  Tags openers() const override { return kOpeners; }

  void open(size_t opener, bool) override {
    alone_ = opener != 0;
    calls_ = 0;
    if (alone_)
      begin();
    else
      place_ = Place::kBetween;
  }

  Step step(Arrived& in, EventWriter& out) override {
    switch (place_) {
      case Place::kBetween:
        return between(in, out);
      case Place::kFirst:
        return header(in, out, kAfterSeparated);
      case Place::kName:
        return header(in, out, kAfterFenced);
      case Place::kArguments:
        return arguments(in, out);
      case Place::kBroken:
        return broken(in, out);
    }
    return Step::kDone;
  }

 private:
  enum class Place { kBetween, kFirst, kName, kArguments, kBroken };

  void begin() {
    place_ = Place::kFirst;
    arguments_ = {};
    tail_.clear();
  }

  Step breaks(EventWriter& out, std::string error) {
    ++calls_;
    out.malformed("tool call: " + std::move(error));
    place_ = Place::kBroken;
    return Step::kAgain;
  }

  // Between calls: space, another call, or the end.
  Step between(Arrived& in, EventWriter& out) {
    out.markup(in.take(in.leading_space()));
    const auto tag = in.begins_with(kBetween);
    if (tag == 0) {
      out.markup(in.take(kBeginCall.size()));
      begin();
      return Step::kAgain;
    }
    if (tag == 1) {
      out.markup(in.take(kEndCalls.size()));
      if (calls_ == 0) out.malformed("tool calls: found the end, expected a call");
      out.drop_markup();
      return Step::kDone;
    }
    if (in.text.empty() && in.last) {
      if (calls_ == 0) out.malformed("tool calls: the reply ends before a call");
      out.drop_markup();
      return Step::kDone;
    }
    if (in.text.empty() || in.may_begin_with(kBetween)) return Step::kMoreText;
    if (alone_) {
      out.content(out.take_markup());
      return Step::kDone;
    }
    return breaks(out, "found text, expected a call or the end of the calls");
  }

  // The type or the name: what stands before the first of `tags`.
  Step header(Arrived& in, EventWriter& out, Tags tags) {
    const auto found = in.find(tags);
    if (found.tag != 0 || found.at > kLongestHeader) {
      const bool hopeless = found.tag || in.last || found.at > kLongestHeader;
      if (!hopeless) return Step::kMoreText;
      out.markup(in.take(found.at));
      return breaks(out, "its name or what follows it is missing");
    }
    const std::string text = in.take(found.at);
    out.markup(text);
    out.markup(in.take(tags[0].size()));
    if (style_ == TokenCallStyle::kFenced && place_ == Place::kFirst) {
      place_ = Place::kName;
      return Step::kAgain;
    }
    std::string name = call_name(text);
    if (name.empty()) return breaks(out, "its name is empty");
    out.begin_call(std::move(name));
    place_ = Place::kArguments;
    return Step::kAgain;
  }

  Step arguments(Arrived& in, EventWriter& out) {
    const auto found = in.find(kAfterArguments);
    const std::string text = in.take(found.at);
    out.markup(text);
    tail_ += text.substr(arguments_.feed(text, out));
    if (arguments_.wrong() || (!arguments_.complete() && !tail_.empty()))
      return breaks(out, "its arguments are not a JSON object");
    if (tail_.size() > kLongestTail) return breaks(out, "text follows its arguments");
    if (!found.tag) return in.last ? breaks(out, "the reply ends inside it") : Step::kMoreText;
    if (found.tag != 0 || !arguments_.complete()) return breaks(out, "its end is missing");
    const std::string rest = call_name(tail_);
    if (!rest.empty() && (style_ == TokenCallStyle::kBare || rest != "```"))
      return breaks(out, "text follows its arguments");
    in.take(kEndCall.size());
    out.end_call();
    ++calls_;
    place_ = Place::kBetween;
    return Step::kAgain;
  }

  // Up to where the next call may begin.
  Step broken(Arrived& in, EventWriter& out) {
    const auto found = in.find(kAfterArguments);
    out.more_malformed(in.take(found.at));
    if (found.tag == 0) out.more_malformed(in.take(kEndCall.size()));
    if (found.tag) place_ = Place::kBetween;
    if (!found.tag && in.last) return Step::kDone;
    return found.tag ? Step::kAgain : Step::kMoreText;
  }

  const TokenCallStyle style_;
  Place place_ = Place::kBetween;
  bool alone_ = false;  // opened by a call, not by the tag around all calls
  int calls_ = 0;       // read so far, whole or not
  ArgumentsReader arguments_;
  std::string tail_;  // what follows the arguments
};

}  // namespace

std::unique_ptr<CallReader> make_token_call_reader(TokenCallStyle style) {
  return std::make_unique<TokenCallReader>(style);
}

std::vector<std::string> token_call_markup() {
  std::vector<std::string> tags = {"<think>", "</think>"};
  for (const std::string_view tag : {kBeginCalls, kEndCalls, kBeginCall, kEndCall, kSeparator})
    tags.emplace_back(tag);
  return tags;
}

}  // namespace fettle
