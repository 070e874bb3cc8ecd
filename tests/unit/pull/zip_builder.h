// Writes ZIP archives for tests, true or twisted.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fettle {

struct BuiltMember {
  std::string name, content;
  bool deflate = true;
  bool zip64 = false;       // sizes and offset only in the ZIP64 field
  uint32_t mode = 0100644;  // st_mode
  uint16_t flags = 0;
  int method = -1;          // claimed method, when not the true one
  int64_t add_to_size = 0;  // claimed size minus the true one
  int64_t add_to_packed = 0;
  int64_t add_to_header = 0;
  uint32_t crc_xor = 0;
};

class ZipBuilder {
 public:
  ZipBuilder& add(BuiltMember member) {
    members_.push_back(std::move(member));
    return *this;
  }

  std::string build(bool zip64_end = false) const {
    std::string out, directory;
    for (const BuiltMember& m : members_) {
      const uint64_t header = out.size() + static_cast<uint64_t>(m.add_to_header);
      const std::string packed = m.deflate ? deflated(m.content) : m.content;
      const uint32_t crc =
          static_cast<uint32_t>(crc32(0, bytes(m.content), static_cast<uInt>(m.content.size()))) ^ m.crc_xor;
      const uint64_t size = m.content.size() + static_cast<uint64_t>(m.add_to_size);
      const uint64_t packed_size = packed.size() + static_cast<uint64_t>(m.add_to_packed);
      const int method = m.method >= 0 ? m.method : m.deflate ? 8 : 0;
      put(&out, 4, 0x04034b50), put(&out, 2, 20), put(&out, 2, m.flags), put(&out, 2, method),
          put(&out, 4, 0);
      put(&out, 4, crc), put(&out, 4, packed_size), put(&out, 4, size), put(&out, 2, m.name.size()),
          put(&out, 2, 0);
      out += m.name + packed;

      std::string extra;
      if (m.zip64)
        put(&extra, 2, 1), put(&extra, 2, 24), put(&extra, 8, size), put(&extra, 8, packed_size),
            put(&extra, 8, header);
      put(&directory, 4, 0x02014b50), put(&directory, 2, 3 << 8 | 20), put(&directory, 2, 20),
          put(&directory, 2, m.flags);
      put(&directory, 2, method), put(&directory, 4, 0), put(&directory, 4, crc);
      put(&directory, 4, m.zip64 ? 0xffffffff : packed_size), put(&directory, 4, m.zip64 ? 0xffffffff : size);
      put(&directory, 2, m.name.size()), put(&directory, 2, extra.size()), put(&directory, 2, 0),
          put(&directory, 4, 0);
      put(&directory, 4, uint64_t{m.mode} << 16), put(&directory, 4, m.zip64 ? 0xffffffff : header);
      directory += m.name + extra;
    }
    const uint64_t at = out.size(), count = members_.size();
    out += directory;
    if (zip64_end) {
      const uint64_t end64 = out.size();
      put(&out, 4, 0x06064b50), put(&out, 8, 44), put(&out, 2, 45), put(&out, 2, 45), put(&out, 4, 0),
          put(&out, 4, 0);
      put(&out, 8, count), put(&out, 8, count), put(&out, 8, directory.size()), put(&out, 8, at);
      put(&out, 4, 0x07064b50), put(&out, 4, 0), put(&out, 8, end64), put(&out, 4, 1);
    }
    put(&out, 4, 0x06054b50), put(&out, 4, 0);
    put(&out, 2, zip64_end ? 0xffff : count), put(&out, 2, zip64_end ? 0xffff : count);
    put(&out, 4, zip64_end ? 0xffffffff : directory.size()), put(&out, 4, zip64_end ? 0xffffffff : at),
        put(&out, 2, 0);
    return out;
  }

 private:
  static const Bytef* bytes(const std::string& text) { return reinterpret_cast<const Bytef*>(text.data()); }

  static void put(std::string* out, int size, uint64_t value) {
    for (int i = 0; i < size; ++i) *out += static_cast<char>(value >> (8 * i));
  }

  static std::string deflated(const std::string& content) {
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    std::string out(deflateBound(&z, content.size()), '\0');
    z.next_in = const_cast<Bytef*>(bytes(content));
    z.avail_in = static_cast<uInt>(content.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
  }

  std::vector<BuiltMember> members_;
};

}  // namespace fettle
