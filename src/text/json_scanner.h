// Says of a text that arrives in pieces how far it is one JSON value (RFC 8259), so that arguments can be
// handed on while they arrive and malformed ones are noticed at the first wrong byte. For this folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

class JsonScanner {
 public:
  // Reads on and returns how many bytes belong to the value: all of them, or those before its end or its
  // first wrong byte. Whitespace before the value belongs to it.
  size_t feed(std::string_view text);
  void finish();  // no more text: only now a bare number is known to be whole
  bool complete() const { return next_ == Next::kNothing; }
  bool wrong() const { return next_ == Next::kWrong; }

 private:
  enum class Next : uint8_t {
    kValue,         // also after a comma in an array
    kValueOrClose,  // after [
    kKeyOrClose,    // after {
    kKey,           // after a comma in an object
    kColon,
    kCommaOrClose,
    kInString,
    kEscape,
    kHex,
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kLiteral,
    kNothing,
    kWrong,
  };
  enum class Taken : uint8_t { kYes, kNo };  // no: the byte ended a number and is looked at again

  Taken take(char c);
  void start_value(char c);
  void string_byte(char c);
  Taken number_byte(char c);
  void structure_byte(char c);
  void close(char open);
  void value_ends();
  bool number_may_end() const;

  Next next_ = Next::kValue;
  std::vector<char> open_;      // { and [ not yet closed
  bool key_ = false;            // the string being read is a key
  int hex_ = 0;                 // hexadecimal digits still to come
  std::string_view literal_{};  // what is left of true, false, null
};

}  // namespace fettle
