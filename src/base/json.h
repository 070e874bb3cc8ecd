// The one way JSON enters and leaves: parsing with limits, and typed access whose errors name file, field,
// found and expected. Json keeps the order of keys, so what is written is reproducible and chat-template
// variables keep theirs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fettle {

using Json = nlohmann::ordered_json;

// `what` names the source in errors (a path, "request body"). Refuses documents nested deeper than max_depth.
Result<Json> parse_json(std::string_view text, std::string_view what, int max_depth = 128);
Result<Json> read_json_file(const std::string& path);

// UTF-8 that is not valid is replaced, never thrown on. indent < 0 means one line.
std::string dump_json(const Json& json, int indent = 1);

// Typed fields of one JSON object. An absent or null field takes the fallback of the *_or forms and is an
// error in the others.
class JsonReader {
 public:
  JsonReader(const Json& object, std::string what) : object_(&object), what_(std::move(what)) {}

  bool has(std::string_view field) const;  // present and not null
  Result<int64_t> integer(std::string_view field) const;
  Result<double> number(std::string_view field) const;
  Result<bool> boolean(std::string_view field) const;
  Result<std::string> string(std::string_view field) const;
  Result<std::vector<int64_t>> integers(std::string_view field) const;
  Result<std::vector<std::string>> strings(std::string_view field) const;
  Result<JsonReader> object(std::string_view field) const;

  Result<int64_t> integer_or(std::string_view field, int64_t fallback) const;
  Result<double> number_or(std::string_view field, double fallback) const;
  Result<bool> boolean_or(std::string_view field, bool fallback) const;
  Result<std::string> string_or(std::string_view field, std::string fallback) const;

  const Json& json() const { return *object_; }
  const std::string& what() const { return what_; }

 private:
  const Json* find(std::string_view field) const;
  Error wrong(std::string_view field, std::string_view expected) const;

  const Json* object_;
  std::string what_;
};

}  // namespace fettle
