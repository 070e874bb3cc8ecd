#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/file.h"

namespace fettle {

namespace {

// Objects of more fields than this are indexed while they are read.
constexpr size_t kFewFields = 32;

// Builds the document from the parser's events. Json looks through all fields of an object for the one that
// is to be set; a file with an object of a million fields would keep that busy for hours. Here a large object
// has an index as long as it is open. Of a name that occurs twice the last value counts, in the first one's
// place.
class DocumentBuilder final : public Json::json_sax_t {
 public:
  explicit DocumentBuilder(size_t max_depth) : max_depth_(max_depth) {}

  Json take() { return std::move(root_); }
  bool too_deep() const { return too_deep_; }
  const std::string& problem() const { return problem_; }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    field_ = field_of(open_.back(), name);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    problem_ = e.what();
    return false;
  }

 private:
  using Members = Json::object_t;
  struct Open {
    Json* json;
    std::map<std::string, ptrdiff_t> places;  // of an object's fields, once they are many
  };

  static Json* field_of(Open& object, const std::string& name) {
    Members& members = object.json->get_ref<Members&>();
    if (members.size() > kFewFields) {
      if (object.places.empty())
        for (auto it = members.begin(); it != members.end(); ++it)
          object.places.emplace(it->first, it - members.begin());
      const auto [place, is_new] = object.places.emplace(name, members.end() - members.begin());
      if (!is_new) return &(members.begin() + place->second)->second;
    } else {
      for (auto& [known, value] : members)
        if (known == name) return &value;
    }
    members.emplace_back(name, nullptr);
    return &members.back().second;
  }

  Json* place(Json value) {
    Json* target = &root_;
    if (!open_.empty() && open_.back().json->is_array()) {
      auto& list = open_.back().json->get_ref<Json::array_t&>();
      list.push_back(nullptr);
      target = &list.back();
    } else if (!open_.empty()) {
      target = field_;
    }
    *target = std::move(value);
    return target;
  }
  bool put(Json value) { return place(std::move(value)) != nullptr; }
  bool open(Json container) {
    too_deep_ = open_.size() >= max_depth_;
    if (too_deep_) return false;
    open_.push_back({place(std::move(container)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  size_t max_depth_;
  Json root_;
  std::vector<Open> open_;  // outermost first
  Json* field_ = nullptr;   // of the innermost object: the one whose value comes next
  bool too_deep_ = false;
  std::string problem_;
};

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what, int max_depth) {
  DocumentBuilder builder(static_cast<size_t>(std::max(max_depth, 0)));
  if (Json::sax_parse(text, &builder)) return builder.take();
  if (builder.too_deep()) return bad_input("{}: JSON is nested deeper than {} levels", what, max_depth);
  return bad_input("{}: not valid JSON: {}", what, builder.problem());
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
