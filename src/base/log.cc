#include "base/log.h"

#include <atomic>
#include <cstdio>

namespace fettle {

namespace {
std::atomic<LogLevel> lowest{LogLevel::kWarning};
}

void set_log_level(LogLevel lowest_shown) { lowest = lowest_shown; }

void log_line(LogLevel level, const std::string& text) {
  if (level < lowest.load()) return;
  std::fprintf(stderr, "%s%s\n", level == LogLevel::kWarning ? "warning: " : "", text.c_str());
}

}  // namespace fettle
