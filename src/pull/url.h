// Addresses: taken apart, encoded, and shown without their secrets.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fettle {

void init_curl();  // once a process, before anything else of libcurl

struct UrlParts {
  std::string scheme, host, path;  // path as written, percent-encoded
};
Result<UrlParts> split_url(const std::string& url);
bool is_loopback(std::string_view host);
std::string percent_encode(std::string_view text, std::string_view also_kept = "");
Result<std::string> percent_decode(std::string_view text);
// For messages: without user, password and query, which may hold secrets.
std::string shown_url(const std::string& url);

}  // namespace fettle
