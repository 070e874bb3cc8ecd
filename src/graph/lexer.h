// Tokens of the graph text: a cursor over one line. Errors name source, line and column.
#pragma once

#include <charconv>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fettle {

class Lexer {
 public:
  Lexer(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  template <typename... Args>
  Error wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return bad_input("{}, column {}: {}", where_, at_ + 1, fmt::format(format, std::forward<Args>(args)...));
  }

  bool at_end() {
    skip_spaces();
    return at_ == text_.size();
  }
  bool accept(std::string_view token) {
    skip_spaces();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  Status expect(std::string_view token) {
    if (!accept(token)) return wrong("expected '{}', found '{}'", token, rest());
    return {};
  }
  // Letters, digits and . _ - (names of weights, operations, forms).
  Result<std::string> word() {
    skip_spaces();
    const size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    if (begin == at_) return wrong("expected a name, found '{}'", rest());
    return std::string(text_.substr(begin, at_ - begin));
  }
  // "..." without escapes: tensor names hold no quotes.
  Result<std::string> quoted() {
    TRY_STATUS(expect("\""));
    const size_t end = text_.find('"', at_);
    if (end == std::string_view::npos) return wrong("a quoted name does not end on this line");
    std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }
  Result<int64_t> integer() { return number<int64_t>("a whole number"); }
  Result<double> real() { return number<double>("a number"); }

 private:
  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  }
  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  std::string rest() const { return std::string(text_.substr(at_, 24)); }
  template <typename T>
  Result<T> number(std::string_view expected) {
    skip_spaces();
    T value{};
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc()) return wrong("expected {}, found '{}'", expected, rest());
    at_ += static_cast<size_t>(end - begin);
    return value;
  }

  std::string_view text_;
  std::string where_;
  size_t at_ = 0;
};

}  // namespace fettle
