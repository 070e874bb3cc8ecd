// CHECK(condition, "format", args...): a programmer error; prints file, line, condition and values, then
// aborts.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>

namespace fettle {

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition,
                                      const std::string& values) {
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed: %s\nThis is a bug in fettle; please report it.\n", file,
               line, condition, values.c_str());
  std::abort();
}

}  // namespace fettle

#define CHECK(condition, ...)                                                                   \
  do {                                                                                          \
    if (!(condition)) [[unlikely]]                                                              \
      ::fettle::check_failed(__FILE_NAME__, __LINE__, #condition, fmt::format("" __VA_ARGS__)); \
  } while (false)
