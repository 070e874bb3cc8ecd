#include "base/json_stream.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <vector>

#include "base/show_name.h"

namespace fettle {

namespace {

constexpr size_t kDeepest = 16;

// nlohmann's callbacks to the visitor's two. A callback answers false to stop; error() then tells why.
class Adapter : public nlohmann::json_sax<nlohmann::json> {
 public:
  Adapter(const std::string& what, JsonVisitor& visitor) : what_(what), visitor_(visitor) {}

  const std::optional<Error>& error() const { return error_; }

  bool null() override { return pass(std::monostate{}); }
  bool boolean(bool value) override { return pass(value); }
  bool number_integer(number_integer_t value) override { return pass(static_cast<double>(value)); }
  bool number_unsigned(number_unsigned_t value) override { return pass(uint64_t{value}); }
  bool number_float(number_float_t value, const string_t&) override { return pass(value); }
  bool string(string_t& value) override { return pass(std::string_view(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override {
    if (!open(false)) return false;
    seen_.emplace_back();
    keys_.emplace_back();
    return true;
  }
  bool key(string_t& name) override {
    if (!seen_.back().insert(name).second)
      return fail(
          bad_input("{}: the name {} occurs twice in one object; expected once", what_, show_name(name)));
    keys_.back() = name;
    return true;
  }
  bool end_object() override {
    seen_.pop_back();
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override { return open(true); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    return fail(bad_input("{}: not valid JSON at byte {}: {}", what_, position, e.what()));
  }

 private:
  bool fail(Error error) {
    error_ = std::move(error);
    return false;
  }
  bool take(Status status) { return status.ok() || fail(std::move(status).error()); }
  bool pass(const JsonScalar& value) { return take(visitor_.scalar(keys_, value)); }
  bool open(bool array) {
    if (++depth_ > kDeepest) return fail(bad_input("{}: JSON nested deeper than {} levels", what_, kDeepest));
    return take(visitor_.opened(keys_, array));
  }

  const std::string& what_;
  JsonVisitor& visitor_;
  std::vector<std::string> keys_;
  std::vector<std::unordered_set<std::string>> seen_;
  size_t depth_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Status stream_json(std::string_view text, const std::string& what, JsonVisitor& visitor) {
  Adapter adapter(what, visitor);
  if (nlohmann::json::sax_parse(text, &adapter)) return {};
  if (adapter.error()) return *adapter.error();
  return bad_input("{}: not valid JSON", what);
}

}  // namespace fettle
