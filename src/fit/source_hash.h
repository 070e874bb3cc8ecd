// The digest of a checkpoint, made while the job packs it: whatever is hashed first is in memory for the
// packer, so that the disk is read once. Hence the hasher goes ahead of the packer, but not further than
// memory can be expected to hold.
#pragma once

#include <cstdint>
#include <string>

#include "base/background.h"
#include "checkpoint/checkpoint.h"

namespace fettle {

// Tells whether the files are those of an interrupted job: SHA-256 over their names, sizes and times of
// change.
Result<std::string> source_identity(const Checkpoint& checkpoint);

class SourceHash {
 public:
  explicit SourceHash(const Checkpoint& checkpoint);
  ~SourceHash();  // gives up
  // The packer is done with this share of the checkpoint.
  void follow(double share);
  // SHA-256 over names, sizes and contents of the checkpoint's files.
  Result<std::string> digest();

 private:
  Status hash();
  bool wait_for_turn(uint64_t begin);

  const std::vector<std::string> files_;  // sorted
  uint64_t total_ = 0, allowed_;
  bool abandoned_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string digest_;
  Background thread_;
};

}  // namespace fettle
