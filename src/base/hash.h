// SHA-256, streaming; digests are lower-case hex everywhere they are printed or stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fettle {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  void update(const void* data, size_t size);
  std::string hex();  // ends the stream

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string sha256_hex(std::string_view bytes);
// Asks before every piece whether to go on, if there is somebody to ask; else the result is an error.
Result<std::string> sha256_file(const std::string& path,
                                const std::function<bool(uint64_t at)>& go_on = nullptr);

}  // namespace fettle
