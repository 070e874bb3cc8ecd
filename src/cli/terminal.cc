#include "cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/check.h"

namespace fettle {

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "for use in a signal handler");
// The signal may come to any thread, so that it interrupts no call of the reader for certain; a byte in a
// pipe does.
int wake_pipe[2] = {-1, -1};
struct sigaction former;

void on_interrupt(int) {
  if (interrupted.exchange(true)) _exit(130);
  const int error = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_pipe[1], "", 1);
  errno = error;
}

}  // namespace

CatchInterrupts::CatchInterrupts() {
  CHECK(wake_pipe[0] < 0, "one at a time");
  CHECK(::pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) == 0, "errno {}", errno);
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, &former);
}

CatchInterrupts::~CatchInterrupts() {
  ::sigaction(SIGINT, &former, nullptr);
  for (int& end : wake_pipe) {
    ::close(end);
    end = -1;
  }
}

bool CatchInterrupts::pending() { return interrupted; }

bool CatchInterrupts::take() {
  char bytes[16];
  while (::read(wake_pipe[0], bytes, sizeof bytes) > 0) {
  }
  return interrupted.exchange(false);
}

LineReader::Got LineReader::next(std::string* line) {
  while (true) {
    const size_t end = held_.find('\n');
    if (end != std::string::npos || (ended_ && !held_.empty())) {
      *line = held_.substr(0, end);
      held_.erase(0, end == std::string::npos ? end : end + 1);
      if (line->ends_with('\r')) line->pop_back();
      return Got::kLine;
    }
    if (ended_) return Got::kEnd;
    pollfd wanted[2] = {{0, POLLIN, 0}, {wake_pipe[0], POLLIN, 0}};
    if (::poll(wanted, 2, -1) < 0 && errno != EINTR) return Got::kEnd;
    if (wake_pipe[0] >= 0 && CatchInterrupts::take()) {
      held_.clear();
      return Got::kInterrupt;
    }
    if (wanted[0].revents == 0) continue;
    char bytes[4096];
    const ssize_t n = ::read(0, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ended_ = true;
    held_.append(bytes, static_cast<size_t>(n > 0 ? n : 0));
  }
}

std::string without_controls(std::string_view text) {
  constexpr std::string_view kInstead = "\xef\xbf\xbd";
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0; };
    const bool c1 = byte(i) == 0xc2 && byte(i + 1) >= 0x80 && byte(i + 1) < 0xa0;
    if (c1 || (byte(i) < 0x20 && text[i] != '\n' && text[i] != '\t') || byte(i) == 0x7f)
      out += kInstead;
    else
      out += text[i];
    i += c1;
  }
  return out;
}

}  // namespace fettle
