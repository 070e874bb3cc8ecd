#include "base/hash.h"

#include <gtest/gtest.h>

#include "temporary_directory.h"

namespace fettle {
namespace {

// FIPS 180-4's examples.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesAndFilesGiveTheSame) {
  std::string bytes(40000001, '\0');  // more than two of the steps in which files are read
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i ^ i >> 9);
  Sha256 pieces;
  for (size_t at = 0; at < bytes.size(); at += 999983)
    pieces.update(bytes.data() + at, std::min<size_t>(999983, bytes.size() - at));
  const std::string expected = sha256_hex(bytes);
  EXPECT_EQ(pieces.hex(), expected);
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomic(directory / "f", bytes).ok());
  EXPECT_EQ(sha256_file(directory / "f").value(), expected);
  EXPECT_FALSE(sha256_file(directory / "absent").ok());
  std::vector<uint64_t> asked;
  const auto given_up = sha256_file(directory / "f", [&](uint64_t at) {
    asked.push_back(at);
    return asked.size() < 2;
  });
  EXPECT_FALSE(given_up.ok());
  EXPECT_EQ(asked, (std::vector<uint64_t>{0, uint64_t{16} << 20}));
}

}  // namespace
}  // namespace fettle
