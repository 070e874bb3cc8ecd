// Result<T>: a value or an Error. Everything that can fail because of the outside world (files, network,
// configuration, devices, users) returns one; programmer errors use CHECK (base/check.h). No exception
// crosses a folder border.
#pragma once

#include <fmt/core.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace fettle {

// The values are the process exit codes of the command line.
enum class Code : int {
  kCheckFailed = 1,  // a certificate, audit or check said no
  kUsage = 2,        // the command or request itself is wrong
  kBadInput = 3,     // a file, message or field is malformed
  kUnsupported = 4,  // well-formed, but fettle cannot do it
  kResource = 5,     // out of memory, disk, permission, network
  kInternal = 70,    // a bug in fettle
};

// A message says what was found, what was expected and what to do; context() puts the place in front of it.
class [[nodiscard]] Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  Error context(const std::string& where) && { return Error(code_, where + ": " + message_); }

 private:
  Code code_;
  std::string message_;
};

template <typename... Args>
Error make_error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Error(code, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Error bad_input(fmt::format_string<Args...> format, Args&&... args) {
  return Error(Code::kBadInput, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Error unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return Error(Code::kUnsupported, fmt::format(format, std::forward<Args>(args)...));
}

template <typename T>
class [[nodiscard]] Result {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a value or an Error is what a function returns.
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  // NOLINTEND(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};
using Status = Result<void>;

#define FETTLE_CONCAT_(a, b) a##b
#define FETTLE_CONCAT(a, b) FETTLE_CONCAT_(a, b)

// TRY(auto x, f()): x = f()'s value, or return its error.   TRY_STATUS(f()): return f()'s error if it has
// one.
#define TRY(declaration, ...)                                                                       \
  auto FETTLE_CONCAT(try_, __LINE__) = (__VA_ARGS__);                                               \
  if (!FETTLE_CONCAT(try_, __LINE__).ok()) return std::move(FETTLE_CONCAT(try_, __LINE__)).error(); \
  declaration = std::move(FETTLE_CONCAT(try_, __LINE__)).value()
#define TRY_STATUS(...)                                         \
  do {                                                          \
    auto try_status = (__VA_ARGS__);                            \
    if (!try_status.ok()) return std::move(try_status).error(); \
  } while (false)

}  // namespace fettle
