// Reads JSON whose size or origin forbids building a document tree first (headers and indexes that name every
// tensor): the reader sees one value at a time, so memory follows what it keeps. Refuses duplicate keys, deep
// nesting and malformed text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace fettle {

// A negative whole number and a fraction are both double: nothing here needs either.
using JsonScalar = std::variant<std::monostate, bool, uint64_t, double, std::string_view>;
using JsonKeys =
    std::span<const std::string>;  // the enclosing fields' names, outermost first; arrays add none

class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual Status opened(JsonKeys keys, bool array) = 0;  // an object or an array begins
  virtual Status scalar(JsonKeys keys, const JsonScalar& value) = 0;
};

// Runs the visitor over the document; the first error ends it. `what` names the source.
Status stream_json(std::string_view text, const std::string& what, JsonVisitor& visitor);

}  // namespace fettle
