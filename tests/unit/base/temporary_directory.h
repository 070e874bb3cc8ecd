// A directory of its own for one test, removed at the end.
#pragma once

#include <cstdlib>
#include <string>

#include "base/check.h"
#include "base/file.h"

namespace fettle {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base && *base ? base : "/tmp") + "/fettle-test-XXXXXX";
    CHECK(mkdtemp(path_.data()) != nullptr, "cannot create {}", path_);
  }
  ~TemporaryDirectory() {
    const Status removed = remove_tree(path_);
    CHECK(removed.ok(), "cannot remove {}", path_);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return join_path(path_, name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace fettle
