// Files: read whole, map read-only, write atomically (temporary name, fsync, rename). Errors name the path
// and the reason and tell "no such file" (bad input) from "no space, no permission" (resource).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fettle {

// errno as an Error: ENOENT and friends are bad input, ENOSPC, EACCES, EROFS, ENOMEM... are resources.
Error errno_error(int error_number, std::string_view action, std::string_view path);

bool path_exists(const std::string& path);
bool is_directory(const std::string& path);
std::string join_path(std::string_view directory, std::string_view name);
std::string base_name(std::string_view path);
Status make_directories(const std::string& path);
Status remove_tree(const std::string& path);
Status rename_path(const std::string& from, const std::string& to);        // also syncs the parent directory
Result<std::vector<std::string>> list_directory(const std::string& path);  // names, sorted
Result<uint64_t> file_size(const std::string& path);
Result<int64_t> file_time_ns(const std::string& path);  // of the last change of its contents

Result<std::string> read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 30);
// Fills out[size] from the start of the file, parts read by `threads` threads at once.
Status read_parallel(const std::string& path, std::byte* out, uint64_t size, int threads);
Status write_file_atomic(const std::string& path, std::string_view bytes);

// A read-only mapping of a whole file; lives as long as anyone holds it. An empty file maps to an empty span.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  // Tells the kernel that a part will not be read again soon; its pages stop counting as resident.
  void drop(uint64_t offset, uint64_t size) const;
  // Has the kernel begin to read a part that will be wanted soon.
  void fetch(uint64_t offset, uint64_t size) const;

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes) : path_(std::move(path)), bytes_(bytes) {}
  std::string path_;
  std::span<const std::byte> bytes_;
};

// An append-only writer that reports the first failure of any write, and of close().
class FileWriter {
 public:
  static Result<FileWriter> create(const std::string& path);
  // Goes on with an existing file (or a new one) after its first `keep` bytes; what follows them is cut off.
  static Result<FileWriter> resume(const std::string& path, uint64_t keep);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();

  Status write(const void* data, uint64_t size);
  Status pad_to(uint64_t alignment);  // zero bytes up to a multiple of alignment
  uint64_t offset() const { return offset_; }
  Status sync();      // everything so far is on disk
  void flush_soon();  // has the kernel begin with what was written since the last call
  Status close();     // flushes to disk

 private:
  FileWriter(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
  uint64_t offset_ = 0, flushed_ = 0;
};

}  // namespace fettle
