#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "temporary_directory.h"

namespace fettle {
namespace {

TEST(WriteFileAtomic, WritesReplacesAndLeavesNothingBehind) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a.bin";
  const std::string bytes = std::string("one\0two", 7) + std::string(100000, 'x');
  ASSERT_TRUE(write_file_atomic(path, bytes).ok());
  EXPECT_EQ(read_file(path).value(), bytes);
  ASSERT_TRUE(write_file_atomic(path, "").ok());
  EXPECT_EQ(read_file(path).value(), "");
  EXPECT_EQ(list_directory(directory.path()).value(), std::vector<std::string>{"a.bin"});
}

TEST(WriteFileAtomic, FailureKeepsTheOldFileAndRemovesTheTemporaryOne) {
  const TemporaryDirectory directory;
  // A directory cannot be replaced by a file: the rename fails after everything was written.
  ASSERT_TRUE(make_directories(directory / "taken/inside").ok());
  const Status status = write_file_atomic(directory / "taken", "new");
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message().find("taken"), std::string::npos);
  EXPECT_EQ(list_directory(directory.path()).value(), std::vector<std::string>{"taken"});
  EXPECT_TRUE(is_directory(directory / "taken/inside"));
}

TEST(WriteFileAtomic, ReadersSeeOneWholeVersion) {
  const TemporaryDirectory directory;
  const std::string path = directory / "shared";
  const std::string versions[] = {std::string(50000, 'a'), std::string(70000, 'b')};
  ASSERT_TRUE(write_file_atomic(path, versions[0]).ok());
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      const std::string seen = read_file(path).value();
      EXPECT_TRUE(seen == versions[0] || seen == versions[1]) << seen.size();
    }
  });
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(write_file_atomic(path, versions[i % 2]).ok());
  stop = true;
  reader.join();
}

// Two threads of one process must not share a temporary name.
TEST(WriteFileAtomic, WritersDoNotMix) {
  const TemporaryDirectory directory;
  const std::string path = directory / "shared";
  const auto write = [&](char c) {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(write_file_atomic(path, std::string(300000, c)).ok());
  };
  std::thread other(write, 'a');
  write('b');
  other.join();
  const std::string seen = read_file(path).value();
  EXPECT_EQ(seen, std::string(300000, seen.at(0)));
}

TEST(Errors, TellBadInputFromResource) {
  const TemporaryDirectory directory;
  const auto absent = read_file(directory / "absent");
  EXPECT_EQ(absent.error().code(), Code::kBadInput);
  EXPECT_NE(absent.error().message().find(std::strerror(ENOENT)), std::string::npos);
  EXPECT_EQ(write_file_atomic(directory / "no/such/file", "x").error().code(), Code::kBadInput);
  EXPECT_EQ(list_directory(directory / "absent").error().code(), Code::kBadInput);
  EXPECT_EQ(file_size(directory / "absent").error().code(), Code::kBadInput);
  EXPECT_EQ(errno_error(ENOSPC, "write", "p").code(), Code::kResource);
  EXPECT_EQ(errno_error(EACCES, "open", "p").code(), Code::kResource);
  EXPECT_EQ(errno_error(ENOMEM, "map", "p").code(), Code::kResource);
  EXPECT_NE(errno_error(ENOSPC, "write", "/a/b").message().find("cannot write '/a/b'"), std::string::npos);
}

TEST(Errors, FullDiskIsReportedByWriteOrClose) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  auto writer = FileWriter::create("/dev/full");
  ASSERT_TRUE(writer.ok());
  const Status written = writer->write("x", 1);
  const Status closed = writer->close();
  ASSERT_FALSE(written.ok() && closed.ok());
  EXPECT_EQ((written.ok() ? closed : written).error().code(), Code::kResource);
}

TEST(ReadFile, RefusesMoreThanItsLimitAndWhatIsNoFile) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomic(directory / "ten", "0123456789").ok());
  EXPECT_TRUE(read_file(directory / "ten", 10).ok());
  EXPECT_NE(read_file(directory / "ten", 9).error().message().find("10 bytes; expected at most 9"),
            std::string::npos);
  EXPECT_EQ(read_file(directory.path()).error().code(), Code::kBadInput);
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_file(directory / "pipe").error().code(), Code::kBadInput);  // and does not wait for a writer
}

TEST(MappedFile, MapsEmptyAndLargerFilesAndSurvivesDrop) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomic(directory / "empty", "").ok());
  EXPECT_EQ(MappedFile::open(directory / "empty").value()->bytes().size(), 0u);
  std::string bytes(100001, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  ASSERT_TRUE(write_file_atomic(directory / "big", bytes).ok());
  const auto file = MappedFile::open(directory / "big").value();
  file->drop(0, 50000);
  file->drop(99999, 1u << 30);
  file->drop(1u << 30, 5);
  EXPECT_EQ(std::memcmp(file->bytes().data(), bytes.data(), bytes.size()), 0);
}

TEST(FileWriter, CountsPadsAndCloses) {
  const TemporaryDirectory directory;
  auto writer = FileWriter::create(directory / "f");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->write("abc", 3).ok());
  ASSERT_TRUE(writer->pad_to(8).ok());
  EXPECT_EQ(writer->offset(), 8u);
  ASSERT_TRUE(writer->pad_to(8).ok());
  ASSERT_TRUE(writer->write("z", 1).ok());
  ASSERT_TRUE(writer->pad_to(10000).ok());
  ASSERT_TRUE(writer->close().ok());
  const std::string bytes = read_file(directory / "f").value();
  ASSERT_EQ(bytes.size(), 10000u);
  EXPECT_EQ(bytes.substr(0, 9), std::string("abc\0\0\0\0\0z", 9));
  EXPECT_EQ(bytes.find_first_not_of('\0', 9), std::string::npos);
}

TEST(Paths, JoinNameListRenameRemove) {
  EXPECT_EQ(join_path("a", "b"), "a/b");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
  EXPECT_EQ(join_path("", "b"), "b");
  EXPECT_EQ(base_name("/x/y/"), "y");
  EXPECT_EQ(base_name("y"), "y");
  const TemporaryDirectory directory;
  ASSERT_TRUE(make_directories(directory / "p/q/r").ok());
  ASSERT_TRUE(make_directories(directory / "p/q/r").ok());
  ASSERT_TRUE(write_file_atomic(directory / "p/b", "12345").ok());
  ASSERT_TRUE(write_file_atomic(directory / "p/a", "").ok());
  EXPECT_EQ(list_directory(directory / "p").value(), (std::vector<std::string>{"a", "b", "q"}));
  EXPECT_EQ(file_size(directory / "p/b").value(), 5u);
  ASSERT_TRUE(rename_path(directory / "p", directory / "moved").ok());
  EXPECT_FALSE(path_exists(directory / "p"));
  EXPECT_TRUE(path_exists(directory / "moved/q/r"));
  EXPECT_FALSE(rename_path(directory / "p", directory / "again").ok());
  ASSERT_TRUE(remove_tree(directory / "moved").ok());
  EXPECT_FALSE(path_exists(directory / "moved"));
}

}  // namespace
}  // namespace fettle
