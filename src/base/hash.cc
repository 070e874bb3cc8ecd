#include "base/hash.h"

#include <openssl/evp.h>

#include "base/check.h"
#include "base/file.h"

namespace fettle {

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~Impl() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  CHECK(impl_->context && EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) == 1,
        "OpenSSL has no SHA-256");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;

void Sha256::update(const void* data, size_t size) { EVP_DigestUpdate(impl_->context, data, size); }

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(impl_->context, digest, &size);
  std::string out;
  for (unsigned i = 0; i < size; ++i) out += fmt::format("{:02x}", digest[i]);
  return out;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.hex();
}

Result<std::string> sha256_file(const std::string& path, const std::function<bool(uint64_t)>& go_on) {
  TRY(auto file, MappedFile::open(path));
  Sha256 hash;
  constexpr size_t kStep = size_t{16} << 20;
  const auto bytes = file->bytes();
  for (size_t at = 0; at < bytes.size(); at += kStep) {
    if (go_on && !go_on(at)) return make_error(Code::kResource, "hashing '{}' was given up", path);
    const size_t n = std::min(kStep, bytes.size() - at);
    file->fetch(at + n, kStep);
    hash.update(bytes.data() + at, n);
    file->drop(at, n);
  }
  return hash.hex();
}

}  // namespace fettle
