// What the tests of pull share: a temporary folder, the fake hub of tests/tools, and work done in a child
// process.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/progress.h"
#include "pull/http.h"
#include "pull/session.h"
#include "pull/url.h"

namespace fettle {

#define EXPECT_OK(expression)                             \
  do {                                                    \
    const auto& expect_ok = (expression);                 \
    EXPECT_TRUE(expect_ok.ok()) << message_of(expect_ok); \
  } while (false)
#define ASSERT_OK(expression)                             \
  do {                                                    \
    const auto& assert_ok = (expression);                 \
    ASSERT_TRUE(assert_ok.ok()) << message_of(assert_ok); \
  } while (false)

template <typename R>
std::string message_of(const R& result) {
  return result.ok() ? "" : result.error().message();
}

// The error's message, or a complaint that there is none.
template <typename R>
std::string failure(const R& result, Code code) {
  if (result.ok()) return "(it succeeded)";
  EXPECT_EQ(static_cast<int>(result.error().code()), static_cast<int>(code)) << result.error().message();
  return result.error().message();
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    // In memory where that can be: every finished file is flushed, which a busy disk answers slowly.
    const std::string root = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : testing::TempDir();
    std::string pattern = join_path(root, "fettle-pull-XXXXXX");
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { (void)remove_tree(path_).ok(); }
  std::string path(const std::string& name = "") const {
    return name.empty() ? path_ : join_path(path_, name);
  }

 private:
  std::string path_;
};

// A child process that does `work` and exits with what it returns.
class Child {
 public:
  explicit Child(const std::function<int()>& work) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::alarm(60);
    ::_exit(work());
  }
  ~Child() { kill(); }
  int wait() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

 private:
  pid_t pid_;
};

// One fake hub for all tests of this program; it ends with the pipe to its standard input.
class FakeHub {
 public:
  static const FakeHub& get() {
    static const FakeHub hub;
    return hub;
  }

  // With a PEM file of key and certificate it speaks TLS.
  explicit FakeHub(const std::string& pem_file = "") : scheme_(pem_file.empty() ? "http" : "https") {
    start(pem_file);
  }

  std::string url(const std::string& path = "") const {
    return scheme_ + "://127.0.0.1:" + std::to_string(port_) + path;
  }
  // The same server under another host name.
  std::string other_host(const std::string& path) const {
    return "http://localhost:" + std::to_string(port_) + path;
  }

  Json control(const std::string& request) const {
    const PullTiming timing;
    const std::string address = url("/control/" + request);
    const Result<std::string> text =
        get_text({.url = address, .headers = {}, .timing = &timing, .stop = nullptr}, 2);
    EXPECT_OK(text);
    const Result<Json> json = parse_json(text.ok() ? *text : "null", "control");
    return json.ok() ? *json : Json();
  }
  void clear() const { control("clear"); }
  void fault(const std::string& end, const std::string& kind, const std::string& more = "") const {
    control("fault?path=" + percent_encode(end) + "&kind=" + kind + (more.empty() ? "" : "&" + more));
  }
  // The logged requests whose path ends so.
  std::vector<Json> requests(const std::string& end = "") const {
    std::vector<Json> found;
    for (const Json& entry : control("log"))
      if (entry["path"].get<std::string>().ends_with(end)) found.push_back(entry);
    return found;
  }
  std::string digest(const std::string& repo, const std::string& file) const {
    const std::string part = repo.empty() ? "" : "repo=" + repo + "&";
    return control("digest?" + part + "file=" + file)["sha256"].get<std::string>();
  }

 private:
  void start(const std::string& pem_file) {
    for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
    ::signal(SIGPIPE, SIG_IGN);
    Progress::set_mode(ProgressMode::kQuiet);
    int input[2], output[2];
    if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0) std::abort();
    const std::string script = FETTLE_TEST_DATA "/../tools/fake_hub.py";
    if (::fork() == 0) {
      ::dup2(input[0], 0);
      ::dup2(output[1], 1);
      ::execlp("python3", "python3", script.c_str(), pem_file.empty() ? nullptr : pem_file.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(input[0]);
    ::close(output[1]);
    for (char c = 0; ::read(output[0], &c, 1) == 1 && c != '\n';) port_ = port_ * 10 + (c - '0');
    ::close(output[0]);
  }

  std::string scheme_;
  int port_ = 0;
};

// Short pauses, but patience with a server on a busy machine.
inline PullTiming quick_timing() {
  return {.connect_s = 20,
          .stall_s = 30,
          .first_pause_s = 0.01,
          .longest_pause_s = 0.05,
          .longest_retry_after_s = 5};
}

class PullTest : public testing::Test {
 protected:
  PullTest() : hub(FakeHub::get()) {
    hub.clear();
    options.cache_directory = folder.path("cache");
    options.hugging_face_url = hub.url();
    options.model_scope_url = hub.url();
  }

  Result<PulledModel> pull_now(const std::string& spec) const { return pull_with(spec, options, timing); }
  std::string cached(const std::string& path) const {
    return join_path(options.cache_directory, "models/" + path);
  }
  std::string digest_of(const std::string& path) const {
    const Result<std::string> digest = sha256_file(path);
    return digest.ok() ? *digest : digest.error().message();
  }
  uint64_t sent(const std::string& end) const {
    uint64_t bytes = 0;
    for (const Json& entry : hub.requests(end)) bytes += entry["sent"].get<uint64_t>();
    return bytes;
  }

  const FakeHub& hub;
  TemporaryFolder folder;
  PullOptions options;
  PullTiming timing = quick_timing();
};

}  // namespace fettle
