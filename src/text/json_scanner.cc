#include "text/json_scanner.h"

namespace fettle {
namespace {

constexpr size_t kDeepest = 128;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

}  // namespace

size_t JsonScanner::feed(std::string_view text) {
  size_t i = 0;
  while (i < text.size() && !complete() && !wrong()) {
    if (take(text[i]) == Taken::kYes && !wrong()) ++i;
  }
  return i;
}

void JsonScanner::finish() {
  if (number_may_end()) value_ends();
}

JsonScanner::Taken JsonScanner::take(char c) {
  switch (next_) {
    case Next::kInString:
    case Next::kEscape:
    case Next::kHex:
      string_byte(c);
      return Taken::kYes;
    case Next::kLiteral:
      if (c != literal_[0]) {
        next_ = Next::kWrong;
      } else {
        literal_.remove_prefix(1);
        if (literal_.empty()) value_ends();
      }
      return Taken::kYes;
    case Next::kMinus:
    case Next::kZero:
    case Next::kInteger:
    case Next::kPoint:
    case Next::kFraction:
    case Next::kExponent:
    case Next::kExponentSign:
    case Next::kExponentDigits:
      return number_byte(c);
    default:
      if (!is_space(c)) structure_byte(c);
      return Taken::kYes;
  }
}

void JsonScanner::structure_byte(char c) {
  const bool in_object = !open_.empty() && open_.back() == '{';
  switch (next_) {
    case Next::kValueOrClose:
      return c == ']' ? close('[') : start_value(c);
    case Next::kValue:
      return start_value(c);
    case Next::kKeyOrClose:
      if (c == '}') return close('{');
      [[fallthrough]];
    case Next::kKey:
      key_ = true;
      next_ = c == '"' ? Next::kInString : Next::kWrong;
      return;
    case Next::kColon:
      next_ = c == ':' ? Next::kValue : Next::kWrong;
      return;
    case Next::kCommaOrClose:
      if (c == ',')
        next_ = in_object ? Next::kKey : Next::kValue;
      else if (c == (in_object ? '}' : ']'))
        close(open_.back());
      else
        next_ = Next::kWrong;
      return;
    default:
      next_ = Next::kWrong;
  }
}

void JsonScanner::start_value(char c) {
  key_ = false;
  if (c == '{' || c == '[') {
    open_.push_back(c);
    next_ = open_.size() > kDeepest ? Next::kWrong : c == '{' ? Next::kKeyOrClose : Next::kValueOrClose;
  } else if (c == '"') {
    next_ = Next::kInString;
  } else if (c == 't' || c == 'f' || c == 'n') {
    literal_ = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
    next_ = Next::kLiteral;
  } else if (c == '-') {
    next_ = Next::kMinus;
  } else if (is_digit(c)) {
    next_ = c == '0' ? Next::kZero : Next::kInteger;
  } else {
    next_ = Next::kWrong;
  }
}

void JsonScanner::string_byte(char c) {
  if (next_ == Next::kHex) {
    if (!is_hex(c))
      next_ = Next::kWrong;
    else if (--hex_ == 0)
      next_ = Next::kInString;
  } else if (next_ == Next::kEscape) {
    const bool known = std::string_view("\"\\/bfnrtu").find(c) != std::string_view::npos;
    hex_ = 4;
    next_ = !known ? Next::kWrong : c == 'u' ? Next::kHex : Next::kInString;
  } else if (c == '\\') {
    next_ = Next::kEscape;
  } else if (c == '"') {
    if (key_)
      next_ = Next::kColon;
    else
      value_ends();
  } else if (static_cast<uint8_t>(c) < 0x20) {
    next_ = Next::kWrong;
  }
}

JsonScanner::Taken JsonScanner::number_byte(char c) {
  const bool digit = is_digit(c);
  const bool exponent = c == 'e' || c == 'E';
  const auto to = [&](Next next) {
    next_ = next;
    return Taken::kYes;
  };
  switch (next_) {
    case Next::kMinus:
      return to(c == '0' ? Next::kZero : digit ? Next::kInteger : Next::kWrong);
    case Next::kInteger:
      if (digit) return Taken::kYes;
      [[fallthrough]];
    case Next::kZero:
      if (c == '.') return to(Next::kPoint);
      if (exponent) return to(Next::kExponent);
      break;
    case Next::kPoint:
      return to(digit ? Next::kFraction : Next::kWrong);
    case Next::kFraction:
      if (digit) return Taken::kYes;
      if (exponent) return to(Next::kExponent);
      break;
    case Next::kExponent:
      return to(c == '+' || c == '-' ? Next::kExponentSign : digit ? Next::kExponentDigits : Next::kWrong);
    case Next::kExponentSign:
      return to(digit ? Next::kExponentDigits : Next::kWrong);
    default:
      if (digit) return Taken::kYes;
  }
  value_ends();
  return Taken::kNo;
}

bool JsonScanner::number_may_end() const {
  return next_ == Next::kZero || next_ == Next::kInteger || next_ == Next::kFraction ||
         next_ == Next::kExponentDigits;
}

void JsonScanner::close(char open) {
  if (open_.empty() || open_.back() != open) {
    next_ = Next::kWrong;
    return;
  }
  open_.pop_back();
  value_ends();
}

void JsonScanner::value_ends() { next_ = open_.empty() ? Next::kNothing : Next::kCommaOrClose; }

}  // namespace fettle
