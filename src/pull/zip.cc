#include "pull/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "pull/listing.h"

namespace fettle {

namespace {

constexpr uint32_t kEndSignature = 0x06054b50, kEnd64Signature = 0x06064b50,
                   kEnd64LocatorSignature = 0x07064b50;
constexpr uint32_t kEntrySignature = 0x02014b50, kLocalSignature = 0x04034b50;
constexpr uint64_t kEndSize = 22, kEnd64Size = 56, kEnd64LocatorSize = 20, kEntrySize = 46, kLocalSize = 30;
constexpr uint64_t kMaxComment = 65535;
constexpr uint64_t kMaxMembers = 100000;
constexpr uint32_t kIn64 = 0xffffffffu;  // the true value stands in the ZIP64 field
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr uint16_t kMadeOnUnix = 3;

// The archive's numbers are little-endian, and so is every machine this builds for.
template <typename T>
T number(std::span<const std::byte> bytes, uint64_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

bool has_room(std::span<const std::byte> bytes, uint64_t at, uint64_t size) {
  return at <= bytes.size() && size <= bytes.size() - at;
}

// The high half of the external attributes is st_mode where the archive was made on Unix; 0 means not said.
bool is_regular(const std::string& name, uint16_t made_by, uint32_t attributes) {
  if (name.ends_with('/')) return false;
  const uint32_t type = (attributes >> 16) & 0170000;
  return made_by >> 8 != kMadeOnUnix || type == 0 || type == 0100000;
}

struct Inflater {
  z_stream stream{};
  bool ready;
  Inflater() : ready(inflateInit2(&stream, -MAX_WBITS) == Z_OK) {}
  ~Inflater() {
    if (ready) inflateEnd(&stream);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

}  // namespace

Error ZipArchive::damaged(const std::string& what) const {
  return bad_input("{}: not a whole ZIP archive: {}; delete it and fetch it again", file_->path(), what);
}

Result<ZipArchive> ZipArchive::open(const std::string& path) {
  TRY(auto file, MappedFile::open(path));
  ZipArchive archive(std::move(file));
  TRY_STATUS(archive.read_directory());
  return archive;
}

Status ZipArchive::read_directory() {
  const auto bytes = file_->bytes();
  if (bytes.size() < kEndSize) return damaged("too short");
  uint64_t end = bytes.size() - kEndSize;
  const uint64_t last = end - std::min<uint64_t>(end, kMaxComment);
  // The end record is followed by a comment only, and that must reach the end of the file exactly.
  while (number<uint32_t>(bytes, end) != kEndSignature ||
         end + kEndSize + number<uint16_t>(bytes, end + 20) != bytes.size()) {
    if (end == last) return damaged("no end record");
    --end;
  }
  uint64_t count = number<uint16_t>(bytes, end + 10);
  uint64_t size = number<uint32_t>(bytes, end + 12), at = number<uint32_t>(bytes, end + 16);
  uint64_t directory_end = end;
  if (end >= kEnd64LocatorSize &&
      number<uint32_t>(bytes, end - kEnd64LocatorSize) == kEnd64LocatorSignature) {
    const uint64_t end64 = number<uint64_t>(bytes, end - kEnd64LocatorSize + 8);
    if (!has_room(bytes, end64, kEnd64Size) || number<uint32_t>(bytes, end64) != kEnd64Signature)
      return damaged("the ZIP64 end record is not where it should be");
    count = number<uint64_t>(bytes, end64 + 32);
    size = number<uint64_t>(bytes, end64 + 40);
    at = number<uint64_t>(bytes, end64 + 48);
    directory_end = end64;
  }
  if (at > directory_end || size > directory_end - at)
    return damaged("the directory reaches beyond its place");
  if (count > kMaxMembers || count > size / kEntrySize)
    return damaged(fmt::format("{} members in a directory of {} bytes", count, size));
  const uint64_t stop = at + size;
  for (uint64_t i = 0; i < count; ++i) {
    TRY(ZipMember member, read_entry(&at, stop));
    members_.push_back(std::move(member));
  }
  return {};
}

Result<ZipMember> ZipArchive::read_entry(uint64_t* at, uint64_t end) const {
  const auto bytes = file_->bytes().first(end);
  if (!has_room(bytes, *at, kEntrySize) || number<uint32_t>(bytes, *at) != kEntrySignature)
    return damaged("the directory is cut or garbled");
  const auto entry = bytes.subspan(*at);
  const uint64_t name_size = number<uint16_t>(entry, 28), extra_size = number<uint16_t>(entry, 30);
  const uint64_t whole = kEntrySize + name_size + extra_size + number<uint16_t>(entry, 32);
  if (!has_room(entry, 0, whole)) return damaged("the directory is cut");
  ZipMember member{.name = std::string(reinterpret_cast<const char*>(entry.data()) + kEntrySize, name_size),
                   .packed = number<uint32_t>(entry, 20),
                   .size = number<uint32_t>(entry, 24),
                   .header = number<uint32_t>(entry, 42),
                   .crc = number<uint32_t>(entry, 16),
                   .method = number<uint16_t>(entry, 10),
                   .flags = number<uint16_t>(entry, 8)};
  member.regular = is_regular(member.name, number<uint16_t>(entry, 4), number<uint32_t>(entry, 38));
  TRY_STATUS(read_zip64(entry.subspan(kEntrySize + name_size, extra_size), &member));
  *at += whole;
  return member;
}

// Field 1 of the extra data holds, in this order, only those values that did not fit.
Status ZipArchive::read_zip64(std::span<const std::byte> extra, ZipMember* member) const {
  std::vector<uint64_t*> wanted;
  for (uint64_t* value : {&member->size, &member->packed, &member->header})
    if (*value == kIn64) wanted.push_back(value);
  if (wanted.empty()) return {};
  for (uint64_t at = 0; has_room(extra, at, 4);) {
    const uint16_t id = number<uint16_t>(extra, at), size = number<uint16_t>(extra, at + 2);
    if (!has_room(extra, at + 4, size)) break;
    if (id == 1 && size >= wanted.size() * 8) {
      for (size_t i = 0; i < wanted.size(); ++i) *wanted[i] = number<uint64_t>(extra, at + 4 + i * 8);
      return {};
    }
    at += 4 + uint64_t{size};
  }
  return damaged(shown_name(member->name) + " has no ZIP64 sizes");
}

Status ZipArchive::extract(const ZipMember& member,
                           const std::function<Status(std::span<const char>)>& sink) const {
  const auto bytes = file_->bytes();
  const std::string name = shown_name(member.name);
  if (member.flags & kEncrypted) return unsupported("{}: {} is encrypted", file_->path(), name);
  if (!has_room(bytes, member.header, kLocalSize) ||
      number<uint32_t>(bytes, member.header) != kLocalSignature)
    return damaged(name + " is not where the directory says");
  const uint64_t start = member.header + kLocalSize + number<uint16_t>(bytes, member.header + 26) +
                         number<uint16_t>(bytes, member.header + 28);
  if (!has_room(bytes, start, member.packed)) return damaged(name + " reaches beyond the end");
  auto packed = bytes.subspan(start, member.packed);

  uint32_t crc = 0;
  uint64_t produced = 0;
  const auto deliver = [&](const void* data, size_t size) -> Status {
    if (size > member.size - produced) return damaged(name + " is longer than it declares");
    produced += size;
    crc = static_cast<uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), size));
    return sink({static_cast<const char*>(data), size});
  };

  constexpr size_t kStep = size_t{1} << 20;
  if (member.method == kStored) {
    for (; !packed.empty(); packed = packed.subspan(std::min(kStep, packed.size())))
      TRY_STATUS(deliver(packed.data(), std::min(kStep, packed.size())));
  } else if (member.method == kDeflated) {
    Inflater inflater;
    if (!inflater.ready) return make_error(Code::kResource, "zlib has no memory to unpack {}", name);
    z_stream& z = inflater.stream;
    std::vector<unsigned char> out(kStep);
    int code = Z_OK;
    while (code != Z_STREAM_END) {
      const size_t given = std::min(kStep, packed.size());
      z.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
      z.avail_in = static_cast<uInt>(given);
      z.next_out = out.data();
      z.avail_out = static_cast<uInt>(out.size());
      code = inflate(&z, Z_NO_FLUSH);
      if (code != Z_OK && code != Z_STREAM_END) return damaged(name + " is not valid deflate data");
      packed = packed.subspan(given - z.avail_in);
      TRY_STATUS(deliver(out.data(), out.size() - z.avail_out));
    }
  } else {
    return unsupported("{}: {} is packed with method {}; expected stored (0) or deflate (8)", file_->path(),
                       name, member.method);
  }
  if (produced != member.size)
    return damaged(fmt::format("{} has {} bytes, expected {}", name, produced, member.size));
  if (crc != member.crc)
    return damaged(fmt::format("{} has CRC-32 {:08x}, expected {:08x}", name, crc, member.crc));
  return {};
}

}  // namespace fettle
