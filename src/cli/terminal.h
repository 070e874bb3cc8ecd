// A conversation's side of the terminal: lines typed, Ctrl-C, and text that cannot steer the terminal.
#pragma once

#include <string>
#include <string_view>

namespace fettle {

// While one lives, Ctrl-C is noted instead of ending the program. A second one before the first was taken
// ends the program after all: whoever presses it again is not served by waiting.
class CatchInterrupts {
 public:
  CatchInterrupts();
  ~CatchInterrupts();
  CatchInterrupts(const CatchInterrupts&) = delete;
  CatchInterrupts& operator=(const CatchInterrupts&) = delete;

  static bool pending();
  static bool take();  // whether one was pending; none is afterwards
};

// Lines of standard input, terminal or not, without their ends.
class LineReader {
 public:
  enum class Got { kLine, kInterrupt, kEnd };
  // kInterrupt: Ctrl-C came first; what was typed of the line is gone.
  Got next(std::string* line);

 private:
  std::string held_;
  bool ended_ = false;
};

// Control characters but newline and tab replaced, so that a reply cannot move the cursor, change the title
// or type into the shell.
std::string without_controls(std::string_view text);

}  // namespace fettle
