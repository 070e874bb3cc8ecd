#include "base/json.h"

#include <cmath>

#include "base/file.h"

namespace fettle {

Result<Json> parse_json(std::string_view text, std::string_view what, int max_depth) {
  bool too_deep = false;
  auto depth_guard = [&](int depth, Json::parse_event_t event, Json&) {
    const bool opens =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (opens && depth >= max_depth) too_deep = true;
    return !too_deep;
  };
  try {
    Json json = Json::parse(text, depth_guard);
    if (too_deep) return bad_input("{}: JSON is nested deeper than {} levels", what, max_depth);
    return json;
  } catch (const Json::exception& e) {
    return bad_input("{}: not valid JSON: {}", what, e.what());
  }
}

Result<Json> read_json_file(const std::string& path) {
  TRY(std::string text, read_file(path));
  return parse_json(text, path);
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

const Json* JsonReader::find(std::string_view field) const {
  if (!object_->is_object()) return nullptr;
  const auto it = object_->find(std::string(field));
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

Error JsonReader::wrong(std::string_view field, std::string_view expected) const {
  const Json* found = find(field);
  if (!found) return bad_input("{}: field '{}' is missing; expected {}", what_, field, expected);
  std::string text = dump_json(*found, -1);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return bad_input("{}: field '{}' is {}; expected {}", what_, field, text, expected);
}

bool JsonReader::has(std::string_view field) const { return find(field) != nullptr; }

namespace {

// Whole numbers may be written as 1e6 or 1000000.0 in configuration files.
bool as_integer(const Json& j, int64_t* out) {
  if (j.is_number_unsigned() && j.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return false;
  if (j.is_number_integer()) {
    *out = j.get<int64_t>();
    return true;
  }
  if (!j.is_number_float()) return false;
  const double d = j.get<double>();
  if (d != std::floor(d) || std::fabs(d) > 9e15) return false;
  *out = static_cast<int64_t>(d);
  return true;
}

}  // namespace

Result<int64_t> JsonReader::integer(std::string_view field) const {
  const Json* j = find(field);
  int64_t value = 0;
  if (!j || !as_integer(*j, &value)) return wrong(field, "a whole number");
  return value;
}

Result<double> JsonReader::number(std::string_view field) const {
  const Json* j = find(field);
  if (!j || !j->is_number()) return wrong(field, "a number");
  return j->get<double>();
}

Result<bool> JsonReader::boolean(std::string_view field) const {
  const Json* j = find(field);
  if (!j || !j->is_boolean()) return wrong(field, "true or false");
  return j->get<bool>();
}

Result<std::string> JsonReader::string(std::string_view field) const {
  const Json* j = find(field);
  if (!j || !j->is_string()) return wrong(field, "a string");
  return j->get<std::string>();
}

Result<std::vector<int64_t>> JsonReader::integers(std::string_view field) const {
  const Json* j = find(field);
  if (!j || !j->is_array()) return wrong(field, "a list of whole numbers");
  std::vector<int64_t> out;
  for (const Json& element : *j) {
    int64_t value = 0;
    if (!as_integer(element, &value)) return wrong(field, "a list of whole numbers");
    out.push_back(value);
  }
  return out;
}

Result<std::vector<std::string>> JsonReader::strings(std::string_view field) const {
  const Json* j = find(field);
  if (!j || !j->is_array()) return wrong(field, "a list of strings");
  std::vector<std::string> out;
  for (const Json& element : *j) {
    if (!element.is_string()) return wrong(field, "a list of strings");
    out.push_back(element.get<std::string>());
  }
  return out;
}

Result<JsonReader> JsonReader::object(std::string_view field) const {
  const Json* j = find(field);
  if (!j || !j->is_object()) return wrong(field, "an object");
  return JsonReader(*j, fmt::format("{}: {}", what_, field));
}

Result<int64_t> JsonReader::integer_or(std::string_view field, int64_t fallback) const {
  return has(field) ? integer(field) : Result<int64_t>(fallback);
}
Result<double> JsonReader::number_or(std::string_view field, double fallback) const {
  return has(field) ? number(field) : Result<double>(fallback);
}
Result<bool> JsonReader::boolean_or(std::string_view field, bool fallback) const {
  return has(field) ? boolean(field) : Result<bool>(fallback);
}
Result<std::string> JsonReader::string_or(std::string_view field, std::string fallback) const {
  return has(field) ? string(field) : Result<std::string>(std::move(fallback));
}

}  // namespace fettle
