#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

namespace fettle {

namespace fs = std::filesystem;

Error errno_error(int error_number, std::string_view action, std::string_view path) {
  const char* hint = "";
  Code code = Code::kResource;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
      code = Code::kBadInput;
      break;
    case ENOSPC:
    case EDQUOT:
      hint = "; free some space or choose another directory";
      break;
    case EACCES:
    case EPERM:
      hint = "; check the permissions of the path";
      break;
    case EROFS:
      hint = "; choose a directory that can be written";
      break;
    default:
      break;
  }
  return make_error(code, "cannot {} '{}': {}{}", action, path, std::strerror(error_number), hint);
}

bool path_exists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
}

bool is_directory(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

std::string join_path(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  std::string out(directory);
  if (out.back() != '/') out += '/';
  return out.append(name);
}

std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

Status make_directories(const std::string& path) {
  std::error_code ec;
  fs::create_directories(path, ec);
  if (ec) return errno_error(ec.value(), "create the directory", path);
  return {};
}

Status remove_tree(const std::string& path) {
  std::error_code ec;
  fs::remove_all(path, ec);
  if (ec) return errno_error(ec.value(), "remove", path);
  return {};
}

namespace {

// A rename is durable only once the directory that holds the name is on disk.
Status sync_parent(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  const std::string parent = folder.empty() ? std::string(".") : folder.string();
  const int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno_error(errno, "open the directory", parent);
  ::fsync(fd);
  ::close(fd);
  return {};
}

}  // namespace

Status rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return errno_error(errno, "rename '" + from + "' to", to);
  return sync_parent(to);
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return errno_error(errno, "list", path);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

Result<uint64_t> file_size(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return errno_error(errno, "look at", path);
  return static_cast<uint64_t>(st.st_size);
}

Result<int64_t> file_time_ns(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return errno_error(errno, "look at", path);
  return int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
}

Result<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  TRY(auto file, MappedFile::open(path));
  if (file->bytes().size() > max_bytes)
    return bad_input("{}: {} bytes; expected at most {}", path, file->bytes().size(), max_bytes);
  return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
}

Status read_parallel(const std::string& path, std::byte* out, uint64_t size, int threads) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno_error(errno, "open", path);
  constexpr uint64_t kPiece = uint64_t{4} << 20;
  std::atomic<uint64_t> next{0};
  std::atomic<int> failed{0};
  const auto work = [&] {
    for (uint64_t at = next.fetch_add(kPiece); at < size && failed == 0; at = next.fetch_add(kPiece)) {
      const uint64_t end = std::min(at + kPiece, size);
      for (uint64_t from = at; from < end;) {
        const ssize_t n = ::pread(fd, out + from, end - from, static_cast<off_t>(from));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
          failed = n < 0 ? errno : EIO;
          return;
        }
        from += static_cast<uint64_t>(n);
      }
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& t : helpers) t.join();
  ::close(fd);
  if (failed != 0) return errno_error(failed, "read", path);
  return {};
}

Status write_file_atomic(const std::string& path, std::string_view bytes) {
  static std::atomic<uint64_t> next{0};  // two threads may write the same path
  const std::string temporary = path + fmt::format(".tmp{}-{}", ::getpid(), next.fetch_add(1));
  auto write = [&]() -> Status {
    TRY(FileWriter out, FileWriter::create(temporary));
    TRY_STATUS(out.write(bytes.data(), bytes.size()));
    TRY_STATUS(out.close());
    return rename_path(temporary, path);
  };
  Status status = write();
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const int fd =
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would block until it had a writer
  if (fd < 0) return errno_error(errno, "open", path);
  struct stat st {};
  if (::fstat(fd, &st) != 0) {
    const int error = errno;
    ::close(fd);
    return errno_error(error, "look at", path);
  }
  if (!S_ISREG(st.st_mode)) {
    ::close(fd);
    return bad_input("'{}' is not a regular file", path);
  }
  std::span<const std::byte> bytes;
  if (st.st_size > 0) {
    void* p = ::mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      return errno_error(error, "map", path);
    }
    bytes = {static_cast<const std::byte*>(p), static_cast<size_t>(st.st_size)};
  }
  ::close(fd);
  return std::shared_ptr<const MappedFile>(new MappedFile(path, bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::drop(uint64_t offset, uint64_t size) const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = (offset + page - 1) / page * page;
  const uint64_t end = std::min<uint64_t>(offset + size, bytes_.size()) / page * page;
  if (begin < end) ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

void MappedFile::fetch(uint64_t offset, uint64_t size) const {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page, end = std::min<uint64_t>(offset + size, bytes_.size());
  if (begin < end) ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_WILLNEED);
}

Result<FileWriter> FileWriter::create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return errno_error(errno, "create", path);
  return FileWriter(path, fd);
}

Result<FileWriter> FileWriter::resume(const std::string& path, uint64_t keep) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return errno_error(errno, "open", path);
  FileWriter writer(path, fd);
  if (::ftruncate(fd, static_cast<off_t>(keep)) != 0) return errno_error(errno, "cut", path);
  if (::lseek(fd, static_cast<off_t>(keep), SEEK_SET) < 0) return errno_error(errno, "seek in", path);
  writer.offset_ = writer.flushed_ = keep;
  return writer;
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      offset_(other.offset_),
      flushed_(other.flushed_) {}

FileWriter::~FileWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Status FileWriter::write(const void* data, uint64_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, p, std::min<uint64_t>(size, uint64_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "write", path_);
    p += n;
    size -= static_cast<uint64_t>(n);
    offset_ += static_cast<uint64_t>(n);
  }
  return {};
}

Status FileWriter::pad_to(uint64_t alignment) {
  static const char zeros[4096] = {};
  uint64_t missing = (alignment - offset_ % alignment) % alignment;
  while (missing > 0) {
    const uint64_t n = std::min<uint64_t>(missing, sizeof zeros);
    TRY_STATUS(write(zeros, n));
    missing -= n;
  }
  return {};
}

Status FileWriter::sync() {
  if (::fdatasync(fd_) != 0 && errno != EINVAL) return errno_error(errno, "flush", path_);
  return {};
}

void FileWriter::flush_soon() {
  // An advice: what goes wrong with the disk is told by sync().
  (void)::sync_file_range(fd_, static_cast<off_t>(flushed_), static_cast<off_t>(offset_ - flushed_),
                          SYNC_FILE_RANGE_WRITE);
  flushed_ = offset_;
}

Status FileWriter::close() {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0) return {};
  const bool synced = ::fsync(fd) == 0 || errno == EINVAL;
  const int error = errno;
  const bool closed = ::close(fd) == 0;
  if (!synced) return errno_error(error, "flush", path_);
  if (!closed) return errno_error(errno, "close", path_);
  return {};
}

}  // namespace fettle
