// The arguments of a call as they arrive: handed on as far as they are one JSON object. For this folder.
#pragma once

#include "text/formats/reply_reader.h"
#include "text/json_scanner.h"

namespace fettle {

class ArgumentsReader {
 public:
  // Hands on what belongs to the object and returns how much of `text` that is (whitespace before it
  // included).
  size_t feed(std::string_view text, EventWriter& out);
  bool complete() const { return scanner_.complete(); }
  bool wrong() const { return wrong_ || scanner_.wrong(); }

 private:
  JsonScanner scanner_;
  bool started_ = false, wrong_ = false;
};

// The name as it was written, without the space around it; empty if it cannot be a name.
std::string call_name(std::string_view text);

// A header that has not ended after so many bytes is none.
constexpr size_t kLongestHeader = 1024;

}  // namespace fettle
