#include "fit/source_hash.h"

#include <algorithm>

#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"

namespace fettle {

namespace {

constexpr uint64_t kAhead = uint64_t{2} << 30;

std::vector<std::string> sorted(std::vector<std::string> files) {
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

Result<std::string> source_identity(const Checkpoint& checkpoint) {
  std::string lines;
  for (const std::string& file : sorted(checkpoint.files())) {
    TRY(const uint64_t size, file_size(file));
    TRY(const int64_t changed_ns, file_time_ns(file));
    lines += fmt::format("{} {} {}\n", base_name(file), size, changed_ns);
  }
  return sha256_hex(lines);
}

SourceHash::SourceHash(const Checkpoint& checkpoint)
    : files_(sorted(checkpoint.files())), allowed_(kAhead), thread_(1) {
  for (const std::string& file : files_) total_ += file_size(file).ok() ? *file_size(file) : 0;
  (void)thread_.post([this] { return hash(); });
}

SourceHash::~SourceHash() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  changed_.notify_all();
}

void SourceHash::follow(double share) {
  const std::lock_guard lock(mutex_);
  allowed_ = std::max(allowed_, kAhead + static_cast<uint64_t>(share * static_cast<double>(total_)));
  changed_.notify_all();
}

bool SourceHash::wait_for_turn(uint64_t begin) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return begin < allowed_ || abandoned_; });
  return !abandoned_;
}

Status SourceHash::hash() {
  uint64_t done = 0;
  std::string lines;
  for (const std::string& file : files_) {
    TRY(const uint64_t size, file_size(file));
    TRY(const std::string digest, sha256_file(file, [&](uint64_t at) { return wait_for_turn(done + at); }));
    lines += fmt::format("{} {} {}\n", base_name(file), size, digest);
    done += size;
  }
  digest_ = sha256_hex(lines);
  return {};
}

Result<std::string> SourceHash::digest() {
  {
    const std::lock_guard lock(mutex_);
    allowed_ = UINT64_MAX;
    changed_.notify_all();
  }
  TRY_STATUS(thread_.wait());
  return digest_;
}

}  // namespace fettle
