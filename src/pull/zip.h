// Reads a ZIP archive (a wheel is one): stored and deflated members, with ZIP64. Nothing in the archive is
// trusted: every offset and length is checked against the file, names as listing.h says, content against its
// declared size and CRC-32. Format: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace fettle {

struct ZipMember {
  std::string name;
  uint64_t packed = 0, size = 0;
  uint64_t header = 0;  // offset of its local header
  uint32_t crc = 0;
  uint16_t method = 0, flags = 0;
  bool regular = true;  // neither a folder nor a symbolic link nor a device
};

class ZipArchive {
 public:
  static Result<ZipArchive> open(const std::string& path);

  // Names are as found; check_remote_name() those that will touch the disk.
  const std::vector<ZipMember>& members() const { return members_; }
  Status extract(const ZipMember& member, const std::function<Status(std::span<const char>)>& sink) const;

 private:
  explicit ZipArchive(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {}
  Status read_directory();
  Result<ZipMember> read_entry(uint64_t* at, uint64_t end) const;
  Status read_zip64(std::span<const std::byte> extra, ZipMember* member) const;
  Error damaged(const std::string& what) const;

  std::shared_ptr<const MappedFile> file_;
  std::vector<ZipMember> members_;
};

}  // namespace fettle
