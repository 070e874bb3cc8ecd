// What a source did, remembered from one certificate to the next: running it exactly is most of the work of
// each. An entry is a file named by a digest of all that decides what is in it: the source's bytes, this very
// program, the instruction set, the tokens. It is written under a temporary name and ends with its own
// digest, so processes may share a directory and damage is noticed. Whatever fails here costs time, never a
// certificate. When the directory outgrows its bound, what was used longest ago goes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "kernels/cpu_features.h"

namespace fettle {

// Rows of fp32 numbers, recorded once and replayed in the same order; a trace made by default does neither.
class SourceTrace {
 public:
  SourceTrace();
  SourceTrace(SourceTrace&&) noexcept;
  SourceTrace& operator=(SourceTrace&&) = delete;
  ~SourceTrace();

  bool replays() const { return entry_ != nullptr; }
  void record(const float* data, uint64_t count);
  Result<const float*> replay(uint64_t count);
  void finish();  // all was recorded: from now on it is found

 private:
  friend class SourceCache;
  struct Recording;
  std::shared_ptr<const MappedFile> entry_;
  uint64_t at_ = 0;
  std::unique_ptr<Recording> recording_;
};

class SourceCache {
 public:
  static constexpr uint64_t kBound = uint64_t{4} << 30;

  SourceCache() = default;  // remembers nothing
  SourceCache(std::string directory, std::string_view source_digest, Isa isa, uint64_t bound = kBound);

  // `what` names the entry: everything that decides its content besides source, program and instruction set.
  std::optional<Json> find(std::string_view what) const;
  void keep(std::string_view what, const Json& value) const;
  SourceTrace trace(std::string_view what) const;

 private:
  std::string path_of(std::string_view what) const;

  std::string directory_, key_;  // "": remembers nothing
  uint64_t bound_ = 0;
};

// Tokens as a part of a name.
std::string tokens_text(const std::vector<std::vector<int32_t>>& windows);

}  // namespace fettle
