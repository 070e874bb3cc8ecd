// One event, one line on standard error. Quiet by default; --verbose shows info.
#pragma once

#include <fmt/core.h>

#include <string>

namespace fettle {

enum class LogLevel { kInfo, kWarning };
void set_log_level(LogLevel lowest_shown);
void log_line(LogLevel level, const std::string& text);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace fettle
