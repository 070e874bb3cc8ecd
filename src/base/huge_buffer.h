// Zeroed memory for weights, caches and activations, aligned to 2 MiB and asked to sit on huge
// pages (file mappings get none on most systems). Untouched pages cost nothing. What may not count as memory
// of the process lies in an unnamed file instead: the system writes it out when memory is short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace fettle {

class HugeBuffer {
 public:
  HugeBuffer() = default;
  static Result<HugeBuffer> allocate(uint64_t bytes);
  static Result<HugeBuffer> in_file(const std::string& directory, uint64_t bytes);
  ~HugeBuffer();
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  HugeBuffer(std::byte* data, uint64_t size, void* mapping, uint64_t mapped)
      : data_(data), size_(size), mapping_(mapping), mapped_(mapped) {}
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  void* mapping_ = nullptr;
  uint64_t mapped_ = 0;
};

}  // namespace fettle
