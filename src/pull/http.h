// One HTTP GET over libcurl, streamed. TLS is verified, redirects stay on http/https and never fall back from
// https to http, credentials never follow a redirect to another host (libcurl's rule for Authorization and
// Cookie headers), proxies come from the environment. An outcome says whether the same request may be tried
// again.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace fettle {

struct PullTiming {
  double connect_s = 15;     // until connected, TLS included
  int stall_s = 30;          // without progress, then the connection is given up
  double first_pause_s = 1;  // before the first retry; doubles
  double longest_pause_s = 30;
  double longest_retry_after_s = 120;  // a server that asks for more gets no retry
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  const PullTiming* timing = nullptr;
  const std::atomic<bool>* stop = nullptr;  // set: the transfer ends soon, with an error
};

// The headers of the response that carries the body, not of redirects before it.
struct HttpHead {
  int status = 0;
  std::optional<uint64_t> length;       // Content-Length
  std::optional<uint64_t> range_begin;  // of Content-Range: bytes BEGIN-END/TOTAL
  std::optional<uint64_t> range_total;
  std::string etag;
  std::string last_modified;
};

// Calls back in order: head once, then body any number of times. An error of theirs ends the transfer and is
// not retried.
struct HttpSink {
  std::function<Status(const HttpHead&)> head;
  std::function<Status(std::span<const char>)> body;
};

struct HttpOutcome {
  Status status;
  int http_status = 0;
  bool retriable = false;
  double retry_after_s = 0;
};

class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Success is 200 or 206. Other statuses become errors; head is called for them too, body is not.
  HttpOutcome get(const HttpRequest& request, const HttpSink& sink);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Tries until success, a final error, `retries` failures in a row without progress, or stop. `attempt` sets
// *progress when it moved something forward, which resets the count.
Status with_retries(const std::string& what, int retries, const PullTiming& timing,
                    const std::atomic<bool>* stop, const std::function<HttpOutcome(bool* progress)>& attempt);

// The whole body of a small answer (a listing), retried.
Result<std::string> get_text(const HttpRequest& request, int retries,
                             uint64_t max_bytes = uint64_t{64} << 20);

}  // namespace fettle
