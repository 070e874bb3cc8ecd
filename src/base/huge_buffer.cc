#include "base/huge_buffer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/file.h"
#include "base/progress.h"

namespace fettle {

namespace {
constexpr uint64_t kHugePage = uint64_t{2} << 20;
}

Result<HugeBuffer> HugeBuffer::allocate(uint64_t bytes) {
  if (bytes == 0) return HugeBuffer();
  // Small buffers need no huge page; large ones are mapped with room to align.
  const uint64_t slack = bytes >= kHugePage ? kHugePage : 0;
  const uint64_t mapped = (bytes + 4095) / 4096 * 4096 + slack;
  void* mapping =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return make_error(Code::kResource,
                      "cannot allocate {}: {}; close other programs or use a smaller model or context",
                      format_bytes(bytes), errno_error(errno, "map", "memory").message());
  const uintptr_t start = reinterpret_cast<uintptr_t>(mapping);
  const uintptr_t aligned = slack ? (start + kHugePage - 1) / kHugePage * kHugePage : start;
  auto* data = reinterpret_cast<std::byte*>(aligned);
  if (slack) ::madvise(data, bytes, MADV_HUGEPAGE);
  return HugeBuffer(data, bytes, mapping, mapped);
}

Result<HugeBuffer> HugeBuffer::in_file(const std::string& directory, uint64_t bytes) {
  if (bytes == 0) return HugeBuffer();
  TRY_STATUS(make_directories(directory));
  int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {  // a file system without unnamed files
    std::string name = join_path(directory, "spill-XXXXXX");
    fd = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd < 0) return errno_error(errno, "create", name);
    ::unlink(name.c_str());
  }
  // Space is taken now: a full disk is an error here, not a crash when a page is written.
  const int failed = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  void* mapping =
      failed != 0 ? MAP_FAILED : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int reason = failed != 0 ? failed : errno;
  ::close(fd);
  if (mapping == MAP_FAILED)
    return errno_error(reason, fmt::format("set {} aside", format_bytes(bytes)), directory);
  return HugeBuffer(static_cast<std::byte*>(mapping), bytes, mapping, bytes);
}

HugeBuffer::~HugeBuffer() {
  if (mapping_) ::munmap(mapping_, mapped_);
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept { *this = std::move(other); }

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace fettle
