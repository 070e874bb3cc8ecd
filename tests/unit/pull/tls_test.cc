// Encrypted connections: whom they trust, and that nothing leads out of them.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>

#include "fixture.h"

namespace fettle {
namespace {

// A key and a certificate for `address` that nobody signed but itself.
void write_self_signed(const std::string& path, const std::string& address) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1,
                             0);
  X509_set_issuer_name(certificate, name);
  X509_EXTENSION* names =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, ("IP:" + address).c_str());
  X509_add_ext(certificate, names, -1);
  X509_sign(certificate, key, EVP_sha256());
  std::FILE* file = std::fopen(path.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  PEM_write_X509(file, certificate);
  std::fclose(file);
  X509_EXTENSION_free(names);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

class TlsTest : public PullTest {
 protected:
  TlsTest() { ::unsetenv("CURL_CA_BUNDLE"); }
  ~TlsTest() override { old_ ? ::setenv("SSL_CERT_FILE", old_, 1) : ::unsetenv("SSL_CERT_FILE"); }

  const char* old_ = ::getenv("SSL_CERT_FILE");
};

TEST_F(TlsTest, OnlyTrustedCertificates) {
  write_self_signed(folder.path("good.pem"), "127.0.0.1");
  write_self_signed(folder.path("other.pem"), "127.0.0.9");
  const FakeHub good(folder.path("good.pem")), other(folder.path("other.pem"));
  const std::string message = failure(pull_now(good.url("/files/model.gguf")), Code::kResource);
  EXPECT_TRUE(contains(message, "not trusted here")) << message;

  ::setenv("SSL_CERT_FILE", folder.path("other.pem").c_str(), 1);
  EXPECT_TRUE(
      contains(failure(pull_now(other.url("/files/model.gguf")), Code::kResource), "not trusted here"))
      << "the certificate is of another host";

  ::setenv("SSL_CERT_FILE", folder.path("good.pem").c_str(), 1);
  good.fault("model.gguf", "redirect", "to=" + percent_encode(hub.url("/files/model.gguf")));
  failure(pull_now(good.url("/files/model.gguf")), Code::kResource);
  EXPECT_TRUE(hub.requests("model.gguf").empty()) << "followed from https to http";
  ASSERT_OK(pull_now(good.url("/files/model.gguf")));
}

}  // namespace
}  // namespace fettle
