#include "pull/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <mutex>

namespace fettle {

void init_curl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

Result<UrlParts> split_url(const std::string& url) {
  init_curl();
  UrlParts parts;
  CURLU* handle = curl_url();
  bool good = handle && curl_url_set(handle, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK;
  const auto part = [&](CURLUPart which, std::string* out) {
    char* text = nullptr;
    if (good && curl_url_get(handle, which, &text, 0) == CURLUE_OK)
      *out = text;
    else
      good = false;
    curl_free(text);
  };
  part(CURLUPART_SCHEME, &parts.scheme);
  part(CURLUPART_HOST, &parts.host);
  part(CURLUPART_PATH, &parts.path);
  curl_url_cleanup(handle);
  if (!good)
    return make_error(Code::kUsage, "'{}' is not an address; expected https://HOST/PATH", shown_url(url));
  return parts;
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos);
}

std::string percent_encode(std::string_view text, std::string_view also_kept) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       also_kept.find(c) != std::string_view::npos;
    if (plain)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2)
      return make_error(Code::kUsage, "'{}' has a '%' that no two hexadecimal digits follow", text);
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

std::string shown_url(const std::string& url) {
  std::string out = url.substr(0, url.find_first_of("?#"));
  const size_t host = out.find("://");
  if (host == std::string::npos) return out;
  const size_t path = std::min(out.find('/', host + 3), out.size());
  const size_t at = out.rfind('@', path);
  if (at != std::string::npos && at > host && at < path) out.erase(host + 3, at - host - 2);
  return out;
}

}  // namespace fettle
