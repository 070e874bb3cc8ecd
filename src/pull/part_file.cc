#include "pull/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "pull/listing.h"

namespace fettle {

namespace {

std::string part_path(const std::string& final_path) { return final_path + std::string(kPartSuffix); }
std::string note_path(const std::string& final_path) { return part_path(final_path) + ".json"; }

// A damaged note only means that the part cannot be trusted: no validator.
std::string read_validator(const std::string& final_path) {
  const Result<Json> json = read_json_file(note_path(final_path));
  if (!json.ok()) return "";
  const Result<std::string> validator = JsonReader(*json, "").string("validator");
  return validator.ok() ? *validator : "";
}

}  // namespace

PartFile::PartFile(std::string final_path, int fd)
    : final_path_(std::move(final_path)),
      path_(part_path(final_path_)),
      fd_(fd),
      hash_(std::make_unique<Sha256>()) {}

PartFile::PartFile(PartFile&& other) noexcept
    : final_path_(std::move(other.final_path_)),
      path_(std::move(other.path_)),
      validator_(std::move(other.validator_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      found_(other.found_),
      hash_(std::move(other.hash_)) {}

PartFile::~PartFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<PartFile> PartFile::open(const std::string& final_path) {
  const std::string path = part_path(final_path);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return errno_error(errno, "create", path);
  PartFile part(final_path, fd);
  std::vector<char> buffer(size_t{1} << 20);
  while (true) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "read", path);
    if (n == 0) break;
    part.hash_->update(buffer.data(), static_cast<size_t>(n));
    part.size_ += static_cast<uint64_t>(n);
  }
  part.found_ = part.size_;
  if (part.size_ > 0) part.validator_ = read_validator(final_path);
  return part;
}

Status PartFile::append(std::span<const char> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "write", path_);
    hash_->update(bytes.data(), static_cast<size_t>(n));
    size_ += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

// Emptied first and noted second: a process killed in between leaves no bytes under a wrong note.
Status PartFile::restart(const std::string& validator) {
  if (::ftruncate(fd_, 0) != 0 || ::lseek(fd_, 0, SEEK_SET) != 0) return errno_error(errno, "empty", path_);
  size_ = found_ = 0;
  hash_ = std::make_unique<Sha256>();
  validator_ = validator;
  return write_file_atomic(note_path(final_path_), dump_json(Json{{"validator", validator}}) + "\n");
}

std::string PartFile::digest() { return hash_->hex(); }

Status PartFile::become_final() {
  if (::fsync(fd_) != 0 && errno != EINVAL) return errno_error(errno, "flush", path_);
  TRY_STATUS(rename_path(path_, final_path_));
  ::unlink(note_path(final_path_).c_str());
  return {};
}

Status PartFile::discard() {
  ::unlink(note_path(final_path_).c_str());
  if (::unlink(path_.c_str()) != 0) return errno_error(errno, "remove", path_);
  return {};
}

}  // namespace fettle
