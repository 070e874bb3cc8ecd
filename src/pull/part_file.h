// NAME.part: a file on its way. Grows at its end only, is hashed as it grows, and remembers in NAME.part.json
// which version of the remote file its bytes belong to, so that a later process can go on. Becomes NAME in
// one rename, after it is on the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/hash.h"
#include "base/result.h"

namespace fettle {

class PartFile {
 public:
  // Opens what an earlier attempt left, or an empty one. Reads the existing bytes once, for the digest.
  static Result<PartFile> open(const std::string& final_path);
  PartFile(PartFile&& other) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  uint64_t size() const { return size_; }
  uint64_t found() const { return found_; }  // bytes left by an earlier process and still in use
  const std::string& validator() const { return validator_; }

  Status append(std::span<const char> bytes);
  Status restart(const std::string& validator);  // empties it
  std::string digest();                          // of everything; once
  Status become_final();
  Status discard();

 private:
  PartFile(std::string final_path, int fd);

  std::string final_path_, path_, validator_;
  int fd_;
  uint64_t size_ = 0;
  uint64_t found_ = 0;
  std::unique_ptr<Sha256> hash_;
};

}  // namespace fettle
