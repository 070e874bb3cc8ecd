#include "text/formats/json_calls.h"

#include <algorithm>

#include "text/formats/call_text.h"

namespace fettle {
namespace {

constexpr std::string_view kOpenCall = "<tool_call>";
constexpr std::string_view kCloseCall = "</tool_call>";
constexpr std::string_view kPythonTag = "<|python_tag|>";
constexpr std::string_view kTaggedOpeners[] = {"\n<tool_call>", kOpenCall};
constexpr std::string_view kBareOpeners[] = {kPythonTag};
constexpr std::string_view kBareStart[] = {"{"};
constexpr std::string_view kTaggedEnd[] = {kCloseCall, kOpenCall};
constexpr std::string_view kSpace = " \t\r\n";

std::string_view without_space(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kSpace), text.size()));
}

// Reads the object of a call member by member; arguments are handed on as soon as the name is known.
class CallObject {
 public:
  // Returns how much of `text` was read: all, or up to behind the object, or up to what is wrong.
  size_t feed(std::string_view text, EventWriter& out) {
    const std::string_view all = text;
    while (!text.empty() && !complete() && error_.empty()) text.remove_prefix(next(text, out));
    return all.size() - text.size();
  }

  bool complete() const { return place_ == Place::kAfter; }
  bool begun() const { return begun_; }
  bool has_arguments() const { return have_arguments_; }
  const std::string& error() const { return error_; }

  // The object has ended: a call without arguments, or whose name came last, is written now.
  bool end(EventWriter& out) {
    if (!complete()) error_ = "it ends before its JSON object does";
    if (error_.empty() && name_.empty()) error_ = "it has no name";
    if (!error_.empty()) return false;
    if (!begun_) out.begin_call(name_);
    if (!streamed_) out.arguments(arguments_.empty() ? "{}" : arguments_);
    out.end_call();
    return true;
  }

 private:
  enum class Place { kBefore, kKeyOrClose, kKey, kColon, kValue, kCommaOrClose, kAfter };

  size_t fails(std::string error) {
    error_ = std::move(error);
    return 0;
  }

  size_t next(std::string_view text, EventWriter& out) {
    const bool in_value = (place_ == Place::kKey || place_ == Place::kValue) && value_started_;
    if (!in_value && kSpace.find(text[0]) != std::string_view::npos) return 1;
    switch (place_) {
      case Place::kBefore:
        return punctuation(text, '{', Place::kKeyOrClose);
      case Place::kKeyOrClose:
        if (text[0] == '}') return punctuation(text, '}', Place::kAfter);
        start_value(Place::kKey);
        [[fallthrough]];
      case Place::kKey:
        return text[0] == '"' || value_started_ ? key(text) : fails("it is not a JSON object");
      case Place::kColon:
        start_value(Place::kValue);
        place_ = Place::kColon;
        return punctuation(text, ':', Place::kValue);
      case Place::kValue:
        return value(text, out);
      case Place::kCommaOrClose:
        if (text[0] == '}') return punctuation(text, '}', Place::kAfter);
        start_value(Place::kKey);
        place_ = Place::kCommaOrClose;
        return punctuation(text, ',', Place::kKey);
      case Place::kAfter:
        break;
    }
    return 0;
  }

  size_t punctuation(std::string_view text, char expected, Place then) {
    if (text[0] != expected) return fails("it is not a JSON object");
    place_ = then;
    return 1;
  }

  void start_value(Place place) {
    place_ = place;
    scanner_ = {};
    value_.clear();
    value_started_ = false;
  }

  size_t key(std::string_view text) {
    value_started_ = true;
    const size_t size = scan(text);
    if (!scanner_.complete()) return size;
    key_ = decoded();
    place_ = Place::kColon;
    return size;
  }

  size_t scan(std::string_view text) {
    const size_t size = scanner_.feed(text);
    value_ += text.substr(0, size);
    if (scanner_.wrong()) error_ = "its JSON is malformed";
    return size;
  }

  size_t value(std::string_view text, EventWriter& out) {
    const bool arguments = key_ == "arguments" || key_ == "parameters";
    if (!value_started_) {
      value_started_ = true;
      if (arguments && have_arguments_) return fails("it has arguments twice");
      streaming_ = arguments && !name_.empty() && text[0] == '{';
      if (streaming_) {
        out.begin_call(name_);
        begun_ = streamed_ = true;
      }
      have_arguments_ |= arguments;
    }
    const size_t size = scan(text);
    if (streaming_) out.arguments(std::exchange(value_, {}));
    if (!scanner_.complete()) return size;
    place_ = Place::kCommaOrClose;
    if (key_ == "name" && !begun_) {
      name_ = call_name(value_.starts_with('"') ? decoded() : std::string());
      if (name_.empty()) error_ = "its name is no text";
    } else if (arguments && !streaming_) {
      arguments_ = value_.starts_with('"') ? decoded() : value_;
      const auto parsed = parse_json(arguments_, "arguments");
      if (!parsed.ok() || !parsed.value().is_object()) error_ = "its arguments are not a JSON object";
    }
    return size;
  }

  // The text of the JSON string in value_.
  std::string decoded() const {
    const auto parsed = parse_json(value_, "call");
    return parsed.ok() && parsed.value().is_string() ? parsed.value().get<std::string>() : std::string();
  }

  Place place_ = Place::kBefore;
  JsonScanner scanner_;
  std::string key_, value_, name_, arguments_, error_;
  bool value_started_ = false, streaming_ = false, streamed_ = false, begun_ = false, have_arguments_ = false;
};

class JsonCallReader final : public CallReader {
 public:
  explicit JsonCallReader(JsonCallStyle style) : tagged_(style == JsonCallStyle::kTagged) {}

  Tags openers() const override { return tagged_ ? Tags(kTaggedOpeners) : Tags(kBareOpeners); }
  Tags start_openers() const override { return tagged_ ? Tags{} : Tags(kBareStart); }

  void open(size_t, bool at_start) override {
    object_ = {};
    broken_ = false;
    may_be_content_ = at_start;
    opened_ = false;
  }

  Step step(Arrived& in, EventWriter& out) override {
    // The brace that opened a bare object is its first byte.
    if (may_be_content_ && !opened_) object_.feed("{", out);
    opened_ = true;
    const auto found = tagged_ ? in.find(kTaggedEnd) : in.find({});
    if (broken_) return broken(in, out, found);
    const std::string text = in.take(found.at);
    const size_t size = object_.feed(text, out);
    if (!tagged_) return bare(in, out, text, size);
    out.markup(text);
    const bool extra = !without_space(std::string_view(text).substr(size)).empty();
    if (!object_.error().empty() || extra)
      return breaks(out, extra && object_.error().empty() ? "text follows its JSON object" : object_.error());
    if (!found.tag && !in.last) return Step::kMoreText;
    if (found.tag != 0) return breaks(out, "its end is missing");
    out.markup(in.take(kCloseCall.size()));
    if (object_.end(out)) return Step::kDone;
    out.malformed("tool call: " + object_.error());
    return Step::kDone;
  }

 private:
  Step breaks(EventWriter& out, const std::string& error) {
    out.malformed("tool call: " + error);
    broken_ = true;
    return Step::kAgain;
  }

  // Up to where the call was to end, or the next begins.
  static Step broken(Arrived& in, EventWriter& out, const Arrived::Found& found) {
    out.more_malformed(in.take(found.at));
    if (found.tag == 0) out.more_malformed(in.take(kCloseCall.size()));
    return found.tag || in.last ? Step::kDone : Step::kMoreText;
  }

  // The object itself says where the call ends.
  Step bare(Arrived& in, EventWriter& out, const std::string& text, size_t size) {
    out.markup(text.substr(0, size));
    in.text.insert(0, text.substr(size));
    if (!object_.error().empty() || (in.last && !object_.complete())) return not_a_call(out);
    if (!object_.complete()) return Step::kMoreText;
    if (may_be_content_ && !object_.has_arguments()) return not_a_call(out);
    return object_.end(out) ? Step::kDone : not_a_call(out);
  }

  Step not_a_call(EventWriter& out) {
    if (may_be_content_ && !object_.begun())
      out.content(out.take_markup());
    else
      out.malformed("tool call: " + (object_.error().empty() ? "the reply ends inside it" : object_.error()));
    return Step::kDone;
  }

  const bool tagged_;
  CallObject object_;
  bool broken_ = false;
  bool may_be_content_ = false;  // opened by a brace, with which other answers begin too
  bool opened_ = false;
};

}  // namespace

std::unique_ptr<CallReader> make_json_call_reader(JsonCallStyle style) {
  return std::make_unique<JsonCallReader>(style);
}

std::vector<std::string> json_call_markup(JsonCallStyle style) {
  std::vector<std::string> tags = {"<think>", "</think>"};
  if (style == JsonCallStyle::kTagged)
    tags.insert(tags.end(), {std::string(kOpenCall), std::string(kCloseCall)});
  else
    tags.emplace_back(kPythonTag);
  return tags;
}

}  // namespace fettle
