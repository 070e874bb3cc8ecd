// The cache on disk: CACHE/models/KIND/READABLE-NAME/ holds a model's files, and fettle-pull.json, written
// last, says that they are all there. READABLE-NAME.lock beside the folder lets one process at a time work on
// it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "pull/fetch.h"
#include "pull/pull.h"

namespace fettle {

struct Manifest {
  std::string spec;
  std::string revision;
  std::string package_sha256;  // of the archive the files came from; empty for others
  std::vector<StoredFile> files;
};

// CACHE/models/KIND/NAME, NAME made fit for a folder; two different names never give the same folder.
std::string model_folder(const std::string& cache, const std::string& kind, const std::string& name);

Status write_manifest(const std::string& folder, const Manifest& manifest);
// Nothing when the folder is not complete: no manifest, a damaged one, a file gone or of another size.
std::optional<Manifest> read_manifest(const std::string& folder);
PulledModel pulled_model(const std::string& folder, const Manifest& manifest);

// Which revision an unfinished folder's files are of; empty if unknown.
std::string unfinished_revision(const std::string& folder);
Status begin_revision(const std::string& folder, const std::string& revision);
void end_revision(const std::string& folder);

// Held exclusively as long as it lives, against other processes and other threads; a killed holder frees it.
class FolderLock {
 public:
  static Result<FolderLock> wait_for(const std::string& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock();

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace fettle
