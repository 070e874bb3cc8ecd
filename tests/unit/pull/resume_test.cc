// Interrupted, disturbed and concurrent downloads.
#include <sys/resource.h>

#include <chrono>
#include <thread>

#include "fixture.h"

namespace fettle {
namespace {

constexpr const char* kBig = "hf:acme/big";
constexpr const char* kWeights = "model.safetensors";

class ResumeTest : public PullTest {
 protected:
  std::string weights() const { return cached("hf/acme--big@main/model.safetensors"); }
  std::string part() const { return weights() + ".part"; }
  void expect_whole_big() const {
    EXPECT_EQ(digest_of(weights()), hub.digest("acme/big", kWeights));
    EXPECT_FALSE(path_exists(part()));
    EXPECT_FALSE(path_exists(part() + ".json"));
  }
  uint64_t true_size() const {
    return hub.control("digest?repo=acme/big&file=model.safetensors")["size"].get<uint64_t>();
  }
  // Leaves a part of so many bytes, as an interrupted process would.
  void interrupt_after(uint64_t bytes) {
    hub.fault(kWeights, "drop", "times=1&after=" + std::to_string(bytes));
    options.retries = 0;
    EXPECT_FALSE(pull_now(kBig).ok());
    EXPECT_EQ(*file_size(part()), bytes);
    EXPECT_FALSE(path_exists(weights()));
    options.retries = 5;
    hub.clear();
  }
};

TEST_F(ResumeTest, DropsCostNothingTwice) {
  hub.fault(kWeights, "drop",
            "times=9&after=400000");  // more often than `retries`, but each brings something
  options.retries = 2;
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_EQ(hub.requests(kWeights).size(), 10u);
  EXPECT_LT(sent(kWeights), true_size() + 9 * 300000);  // what a dropped connection may have had in flight
  for (size_t i = 1; i < 10; ++i) {
    EXPECT_NE(hub.requests(kWeights)[i]["range"], "");
    EXPECT_NE(hub.requests(kWeights)[i]["if-range"], "");
  }
}

TEST_F(ResumeTest, ALaterProcessGoesOn) {
  interrupt_after(1000000);
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_EQ(hub.requests(kWeights).size(), 1u);
  EXPECT_EQ(hub.requests(kWeights)[0]["range"], "bytes=1000000-");
  EXPECT_EQ(sent(kWeights), true_size() - 1000000);
  EXPECT_TRUE(hub.requests("config.json").empty());  // it was whole already
}

TEST_F(ResumeTest, KilledInTheMiddle) {
  hub.fault(kWeights, "slow", "chunk=65536&pause=0.02");
  Child child([&] { return pull_now(kBig).ok() ? 0 : 1; });
  uint64_t have = 0;
  for (int i = 0; i < 2000 && have < 600000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (const auto size = file_size(part()); size.ok()) have = *size;
  }
  child.kill();
  ASSERT_GE(have, 600000u);
  have = *file_size(part());
  ASSERT_LT(have, true_size());
  EXPECT_FALSE(path_exists(weights()));
  hub.clear();
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  ASSERT_EQ(hub.requests(kWeights).size(), 1u);
  EXPECT_EQ(hub.requests(kWeights)[0]["range"], "bytes=" + std::to_string(have) + "-");
  EXPECT_EQ(sent(kWeights), true_size() - have);
}

TEST_F(ResumeTest, TwoAtOnceFetchOnce) {
  hub.fault(kWeights, "slow", "chunk=262144&pause=0.02");
  Child first([&] { return pull_now(kBig).ok() ? 0 : 1; });
  Child second([&] { return pull_now(kBig).ok() ? 0 : 1; });
  Result<PulledModel> third = pull_now(kBig);
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(second.wait(), 0);
  ASSERT_OK(third);
  expect_whole_big();
  EXPECT_EQ(hub.requests(kWeights).size(), 1u);
}

TEST_F(ResumeTest, AServerWithoutRangesStartsAgainCleanly) {
  interrupt_after(1000000);
  hub.fault(kWeights, "norange", "times=-1");
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_EQ(sent(kWeights), true_size());
}

TEST_F(ResumeTest, AnotherRangeThanAskedForStartsAgain) {
  interrupt_after(1000000);
  hub.fault(kWeights, "otherrange", "times=1");
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  const auto requests = hub.requests(kWeights);
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0]["range"], "bytes=1000000-");
  EXPECT_EQ(requests[1]["range"], "");
}

TEST_F(ResumeTest, AChangedFileStartsAgain) {
  const std::string address = hub.url("/files/model.gguf");
  for (const bool weak : {false, true}) {  // If-Range knows no weak tags: there the client must compare
    hub.clear();
    options.cache_directory = folder.path(weak ? "weak" : "strong");
    if (weak) hub.fault("model.gguf", "weak", "times=-1");
    options.retries = 0;
    hub.fault("model.gguf", "drop", "after=1000000");
    EXPECT_FALSE(pull_now(address).ok());
    options.retries = 3;
    hub.fault("model.gguf", "retag", "times=1");
    const auto model = pull_now(address);
    ASSERT_OK(model);
    EXPECT_EQ(hub.requests("model.gguf")[1]["range"], "bytes=1000000-");
    EXPECT_EQ(hub.requests("model.gguf")[1]["if-range"] == "", weak);
    const auto bytes = read_file(model->path);
    ASSERT_OK(bytes);
    EXPECT_EQ(bytes->size(), size_t{3} << 20);
    // All of the new one: its tail is zeros after 100 bytes. Mixed, it would have noise up to a million.
    EXPECT_EQ(bytes->find_first_not_of('\0', 100), std::string::npos);
  }
}

TEST_F(ResumeTest, WithoutATagOnlyADigestAllowsResuming) {
  hub.fault(kWeights, "notag", "times=-1");
  hub.fault("model.gguf", "notag", "times=-1");
  hub.fault(kWeights, "drop", "after=1000000");
  hub.fault("model.gguf", "drop", "after=1000000");
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_EQ(hub.requests(kWeights)[1]["range"], "bytes=1000000-");

  options.retries = 0;
  EXPECT_FALSE(pull_now(hub.url("/files/model.gguf")).ok());
  ASSERT_OK(pull_now(hub.url("/files/model.gguf")));
  EXPECT_EQ(hub.requests("model.gguf")[1]["range"], "");
}

TEST_F(ResumeTest, WrongBytesAreDeletedAndNamed) {
  hub.fault(kWeights, "wrong", "times=1");
  const std::string message = failure(pull_now(kBig), Code::kBadInput);
  EXPECT_TRUE(contains(message, "expected " + hub.digest("acme/big", kWeights))) << message;
  EXPECT_FALSE(path_exists(weights()) || path_exists(part()));
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
}

TEST_F(ResumeTest, ASpoiledPartIsReplacedWithoutAsking) {
  interrupt_after(1000000);
  std::string bytes = *read_file(part());
  bytes[5000] ^= 1;
  ASSERT_OK(write_file_atomic(part(), bytes));
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_EQ(hub.requests(kWeights).size(), 2u);
}

TEST_F(ResumeTest, APartThatIsWholeOrTooLong) {
  ASSERT_OK(pull_now(kBig));
  const std::string whole = *read_file(weights());
  ASSERT_EQ(::rename(weights().c_str(), part().c_str()), 0);
  hub.clear();
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_TRUE(hub.requests(kWeights).empty());

  ASSERT_EQ(::unlink(weights().c_str()), 0);
  ASSERT_OK(write_file_atomic(part(), whole + "more"));
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
}

TEST_F(ResumeTest, AWholePartOfUnknownSizeIsRecognised) {
  const auto model = pull_now(hub.url("/files/model.gguf"));
  ASSERT_OK(model);
  const std::string tag = "\"" + hub.digest("", "model.gguf").substr(0, 16) + "\"";
  ASSERT_EQ(::rename(model->path.c_str(), (model->path + ".part").c_str()), 0);
  ASSERT_OK(write_file_atomic(model->path + ".part.json", dump_json(Json{{"validator", tag}})));
  hub.clear();
  ASSERT_OK(pull_now(hub.url("/files/model.gguf")));
  EXPECT_EQ(sent("model.gguf"), 0u);
  EXPECT_EQ(digest_of(model->path), hub.digest("", "model.gguf"));
}

TEST_F(ResumeTest, BusyServersAreWaitedFor) {
  hub.fault("revision/main", "status", "code=429&times=2&retry_after=1");
  hub.fault(kWeights, "status", "code=503&times=2");
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  const auto listings = hub.requests("revision/main");
  ASSERT_EQ(listings.size(), 3u);
  EXPECT_GE(listings[1]["at"].get<double>() - listings[0]["at"].get<double>(), 0.9);  // as the server asked
  EXPECT_EQ(hub.requests(kWeights).size(), 3u);
}

TEST_F(ResumeTest, BusyForTooLongIsAnError) {
  hub.fault("revision/main", "status", "code=429&times=-1&retry_after=3600");
  EXPECT_TRUE(contains(failure(pull_now(kBig), Code::kResource), "come back in 3600 s"));
  EXPECT_EQ(hub.requests("revision/main").size(), 1u);
  hub.clear();
  options.retries = 2;
  hub.fault(kWeights, "status", "code=500&times=-1");
  const std::string message = failure(pull_now(kBig), Code::kResource);
  EXPECT_TRUE(contains(message, "HTTP 500") && contains(message, "after 3 attempts")) << message;
  EXPECT_FALSE(contains(message, "\x1b")) << "control characters of the server reach the terminal";
}

TEST_F(ResumeTest, ASilentServerIsGivenUpAndTriedAgain) {
  timing.stall_s = 1;
  hub.fault(kWeights, "hang", "seconds=60&times=1");
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  const auto requests = hub.requests(kWeights);
  ASSERT_GE(requests.size(), 2u);
  EXPECT_LT(requests[1]["at"].get<double>() - requests[0]["at"].get<double>(), 60)
      << "the server ended the silence, not the client";
}

TEST_F(ResumeTest, NobodyListening) {
  options.hugging_face_url = "http://127.0.0.1:1";
  options.retries = 1;
  EXPECT_TRUE(contains(failure(pull_now(kBig), Code::kResource), "check the network and the proxy settings"));
}

TEST_F(ResumeTest, LyingLengths) {
  hub.fault(kWeights, "length", "add=1000&times=1");
  EXPECT_TRUE(contains(failure(pull_now(kBig), Code::kBadInput), "the listing"));
  hub.fault(kWeights, "length", "add=-1000&times=1");
  EXPECT_TRUE(contains(failure(pull_now(kBig), Code::kBadInput), "the listing"));
  hub.fault(kWeights, "excess", "times=1");
  EXPECT_TRUE(contains(failure(pull_now(kBig), Code::kBadInput), "more than"));
  hub.fault(kWeights, "nolength", "times=1");
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();

  // Where no listing contradicts, a length that is never reached is resumed until the server admits the end.
  hub.fault("/files/model.gguf", "length", "add=1000&times=1");
  const auto model = pull_now(hub.url("/files/model.gguf"));
  ASSERT_OK(model);
  EXPECT_EQ(digest_of(model->path), hub.digest("", "model.gguf"));
}

TEST_F(ResumeTest, AFullDiskLeavesWhatItHas) {
  const int code =
      Child([&] {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{1000000, 1000000};  // stands for a full disk: write() fails in the middle
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const auto model = pull_now(kBig);
        if (model.ok() || model.error().code() != Code::kResource) return 1;
        return contains(model.error().message(), "model.safetensors.part") ? 0 : 2;
      }).wait();
  EXPECT_EQ(code, 0);
  EXPECT_EQ(*file_size(part()), 1000000u);
  hub.clear();
  ASSERT_OK(pull_now(kBig));
  expect_whole_big();
  EXPECT_EQ(hub.requests(kWeights)[0]["range"], "bytes=1000000-");
}

TEST_F(ResumeTest, OneFailureStopsTheOthers) {
  hub.fault("model-00001-of-00003.safetensors", "slow",
            "chunk=1000&pause=0.05");  // 15 s, if nobody stopped it
  hub.fault("model-00002-of-00003.safetensors", "status", "code=404&delay=0.3&times=-1");
  options.parallel = 2;
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/sharded"), Code::kBadInput), "00002-of-00003"));
  EXPECT_TRUE(hub.requests("model-00003-of-00003.safetensors").empty());
  const uint64_t have = *file_size(cached("hf/acme--sharded@main/model-00001-of-00003.safetensors.part"));
  EXPECT_GT(have, 0u);
  hub.clear();
  ASSERT_OK(pull_now("hf:acme/sharded"));
  EXPECT_EQ(hub.requests("model-00001-of-00003.safetensors")[0]["range"],
            "bytes=" + std::to_string(have) + "-");
}

TEST_F(ResumeTest, FilesWithoutDigestOfAnotherCommitAreNotKept) {
  interrupt_after(1000000);
  const std::string config = cached("hf/acme--big@main/config.json");
  const std::string state = cached("hf/acme--big@main/fettle-pull.unfinished.json");
  ASSERT_OK(write_file_atomic(config, "[]"));  // of the right size: only the commit tells
  ASSERT_OK(write_file_atomic(state, "{\"revision\":\"fedcba9876543210\"}"));
  ASSERT_OK(pull_now(kBig));
  EXPECT_EQ(*read_file(config), "{}");
  EXPECT_FALSE(path_exists(state));
}

}  // namespace
}  // namespace fettle
