#include "pull/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/log.h"
#include "pull/url.h"

namespace fettle {

namespace {

constexpr size_t kMaxErrorBody = 4096;
constexpr long kMaxRedirects = 8;
constexpr long kStalledBytesPerSecond = 16;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && std::strchr(" \t\r\n", text.back())) text.remove_suffix(1);
  return text;
}

std::optional<uint64_t> parse_count(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// "bytes 100-199/1000", "bytes */1000" (with 416), "bytes 0-9/*".
void parse_content_range(std::string_view value, HttpHead* head) {
  if (!value.starts_with("bytes ")) return;
  value.remove_prefix(6);
  const size_t slash = value.find('/');
  if (slash == std::string_view::npos) return;
  head->range_total = parse_count(value.substr(slash + 1));
  const std::string_view range = value.substr(0, slash);
  head->range_begin = parse_count(range.substr(0, range.find('-')));
}

// What a server says about its refusal, made safe to print.
std::string server_words(const std::string& body, const std::string& content_type) {
  if (content_type.find("html") != std::string::npos) return "";
  std::string words;
  for (const char c : body) {
    if (words.size() >= 200) break;
    if (c >= ' ' && c < 0x7f)
      words += c;
    else if (!words.empty() && words.back() != ' ')
      words += ' ';
  }
  return words.empty() ? "" : fmt::format(" (the server says: {})", trim(words));
}

}  // namespace

struct HttpClient::Impl {
  CURL* easy = nullptr;
  char curl_message[CURL_ERROR_SIZE] = {};

  // Of the transfer under way:
  const HttpRequest* request = nullptr;
  const HttpSink* sink = nullptr;
  HttpHead head;
  bool head_given = false;
  std::string content_type, error_body;
  std::optional<Error> sink_error;

  static size_t on_header(const char* data, size_t size, size_t count, void* self) {
    static_cast<Impl*>(self)->header(std::string_view(data, size * count));
    return size * count;
  }
  static size_t on_body(const char* data, size_t size, size_t count, void* self) {
    return static_cast<Impl*>(self)->body({data, size * count}) ? size * count : 0;
  }
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    const auto* stop = static_cast<Impl*>(self)->request->stop;
    return stop && stop->load() ? 1 : 0;
  }

  void header(std::string_view line) {
    if (line.starts_with("HTTP/")) {  // a redirect's headers give way to the next response's
      head = {};
      content_type.clear();
      return;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string name = lower(line.substr(0, colon));
    const std::string_view value = trim(line.substr(colon + 1));
    if (name == "content-length")
      head.length = parse_count(value);
    else if (name == "content-range")
      parse_content_range(value, &head);
    else if (name == "etag")
      head.etag = value;
    else if (name == "last-modified")
      head.last_modified = value;
    else if (name == "content-type")
      content_type = lower(value);
  }

  bool give_head() {
    if (head_given) return !sink_error;
    head_given = true;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    head.status = static_cast<int>(status);
    if (sink->head) keep(sink->head(head));
    return !sink_error;
  }

  bool body(std::span<const char> bytes) {
    if (!give_head()) return false;
    if (head.status != 200 && head.status != 206) {
      error_body.append(bytes.data(), std::min(bytes.size(), kMaxErrorBody - error_body.size()));
      return error_body.size() < kMaxErrorBody;
    }
    keep(sink->body(bytes));
    return !sink_error;
  }

  void keep(Status status) {
    if (!status.ok()) sink_error = std::move(status).error();
  }

  void prepare(curl_slist* headers);
  HttpOutcome outcome(CURLcode code);
};

HttpClient::HttpClient() : impl_(std::make_unique<Impl>()) {
  init_curl();
  impl_->easy = curl_easy_init();
}

HttpClient::~HttpClient() { curl_easy_cleanup(impl_->easy); }

void HttpClient::Impl::prepare(curl_slist* headers) {
  const PullTiming& timing = *request->timing;
  const bool encrypted = request->url.starts_with("https://");
  curl_easy_reset(easy);  // keeps the connection
  const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(easy, option, value); };
  set(CURLOPT_URL, request->url.c_str());
  set(CURLOPT_HTTPHEADER, headers);
  set(CURLOPT_USERAGENT, "fettle");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_ERRORBUFFER, curl_message);
#if CURL_AT_LEAST_VERSION(7, 85, 0)
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_REDIR_PROTOCOLS_STR, encrypted ? "https" : "http,https");
#else
  set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
  set(CURLOPT_REDIR_PROTOCOLS,
      static_cast<long>(encrypted ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_MAXREDIRS, kMaxRedirects);
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  // The curl command and OpenSSL read these; libcurl alone does not.
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"})
    if (const char* file = std::getenv(name); file && *file) {
      set(CURLOPT_CAINFO, file);
      break;
    }
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(timing.connect_s * 1000));
  set(CURLOPT_LOW_SPEED_LIMIT, kStalledBytesPerSecond);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(timing.stall_s));
  set(CURLOPT_BUFFERSIZE, 256L << 10);
  set(CURLOPT_HEADERFUNCTION, &Impl::on_header);
  set(CURLOPT_HEADERDATA, this);
  set(CURLOPT_WRITEFUNCTION, &Impl::on_body);
  set(CURLOPT_WRITEDATA, this);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &Impl::on_progress);
  set(CURLOPT_XFERINFODATA, this);
}

HttpOutcome HttpClient::get(const HttpRequest& request, const HttpSink& sink) {
  Impl& t = *impl_;
  t.request = &request;
  t.sink = &sink;
  t.head = {};
  t.head_given = false;
  t.content_type.clear();
  t.error_body.clear();
  t.sink_error.reset();
  t.curl_message[0] = '\0';
  if (!t.easy) return {make_error(Code::kResource, "libcurl has no memory for a transfer")};

  curl_slist* headers = nullptr;
  for (const std::string& line : request.headers) headers = curl_slist_append(headers, line.c_str());
  t.prepare(headers);
  const CURLcode code = curl_easy_perform(t.easy);
  if (code == CURLE_OK) t.give_head();  // an empty body made no call
  HttpOutcome out = t.outcome(code);
  curl_easy_setopt(t.easy, CURLOPT_HTTPHEADER, nullptr);
  curl_slist_free_all(headers);
  return out;
}

namespace {

bool network_may_recover(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
      return true;
    default:
      return false;
  }
}

std::string_view advice(CURLcode code) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
      return "; the server's certificate is not trusted here (SSL_CERT_FILE names another bundle)";
    case CURLE_UNSUPPORTED_PROTOCOL:
      return "; only https (and http) addresses and redirects are followed";
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return "; check the network and the proxy settings";
    default:
      return "";
  }
}

HttpOutcome refused(int status, const std::string& where, const std::string& words, double retry_after_s) {
  HttpOutcome out{.status = {}, .http_status = status};
  switch (status) {
    case 401:
    case 403:
      out.status =
          make_error(Code::kResource,
                     "{}: HTTP {}; it does not exist, or needs an access token whose account has accepted "
                     "its terms{}",
                     where, status, words);
      return out;
    case 404:
    case 410:
      out.status =
          bad_input("{}: HTTP {}, not found; check the name and the revision{}", where, status, words);
      return out;
    case 408:
    case 425:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      out.retriable = true;
      out.retry_after_s = retry_after_s;
      break;
    default:
      break;
  }
  out.status = make_error(Code::kResource, "{}: HTTP {}; expected 200{}", where, status, words);
  return out;
}

}  // namespace

HttpOutcome HttpClient::Impl::outcome(CURLcode code) {
  const std::string where = shown_url(request->url);
  if (sink_error) return {.status = *std::move(sink_error), .http_status = head.status};
  if (request->stop && request->stop->load())
    return {.status = make_error(Code::kResource, "{}: stopped", where)};
  const bool refusal = head_given && head.status != 200 && head.status != 206;
  if (refusal) {  // whatever happened to the body of a refusal does not matter
    curl_off_t seconds = 0;
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds);
    return refused(head.status, where, server_words(error_body, content_type), static_cast<double>(seconds));
  }
  if (code == CURLE_OK) return {.status = {}, .http_status = head.status};
  const char* reason = curl_message[0] ? curl_message : curl_easy_strerror(code);
  return {.status = make_error(Code::kResource, "{}: {}{}", where, reason, advice(code)),
          .http_status = head.status,
          .retriable = network_may_recover(code)};
}

Status with_retries(const std::string& what, int retries, const PullTiming& timing,
                    const std::atomic<bool>* stop,
                    const std::function<HttpOutcome(bool* progress)>& attempt) {
  int failures = 0;
  while (true) {
    bool progress = false;
    HttpOutcome out = attempt(&progress);
    if (out.status.ok() || !out.retriable) return std::move(out.status);
    failures = progress ? 1 : failures + 1;
    const std::string reason = out.status.error().message();
    if (failures > retries) {
      if (retries <= 0) return std::move(out.status);
      return make_error(out.status.error().code(), "{} (after {} attempts without progress)", reason,
                        failures);
    }
    if (out.retry_after_s > timing.longest_retry_after_s)
      return make_error(Code::kResource, "{}; the server asks to come back in {:.0f} s", reason,
                        out.retry_after_s);
    double pause = timing.first_pause_s * static_cast<double>(1 << std::min(failures - 1, 16));
    pause = std::max(std::min(pause, timing.longest_pause_s), out.retry_after_s);
    log_info("{}: {}; again in {:.1f} s", what, reason, pause);
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(pause);
    while (std::chrono::steady_clock::now() < until) {
      if (stop && stop->load()) return make_error(Code::kResource, "{}: stopped", what);
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(pause, 0.05)));
    }
  }
}

Result<std::string> get_text(const HttpRequest& request, int retries, uint64_t max_bytes) {
  HttpClient client;
  std::string text;
  const std::string where = shown_url(request.url);
  const HttpSink sink{.head = {}, .body = [&](std::span<const char> bytes) -> Status {
                        if (text.size() + bytes.size() > max_bytes)
                          return bad_input("{}: the answer exceeds {} bytes", where, max_bytes);
                        text.append(bytes.data(), bytes.size());
                        return {};
                      }};
  TRY_STATUS(with_retries(where, retries, *request.timing, request.stop, [&](bool*) {
    text.clear();
    return client.get(request, sink);
  }));
  return text;
}

}  // namespace fettle
