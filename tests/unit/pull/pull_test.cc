#include "pull/pull.h"

#include <sys/stat.h>

#include "fixture.h"

namespace fettle {
namespace {

std::vector<std::string> names_in(const std::string& path) {
  const auto names = list_directory(path);
  return names.ok() ? *names : std::vector<std::string>{names.error().message()};
}

TEST_F(PullTest, TakesWhatAModelNeedsAndTheWeightsOnce) {
  const auto model = pull_now("hf:acme/sharded");
  ASSERT_OK(model);
  EXPECT_EQ(model->path, cached("hf/acme--sharded@main"));
  EXPECT_EQ(model->spec, "hf:acme/sharded");
  EXPECT_EQ(model->revision, "0123456789abcdef0123456789abcdef01234567");
  EXPECT_EQ(
      names_in(model->path),
      (std::vector<std::string>{"LICENSE", "chat_template.jinja", "config.json", "fettle-pull.json",
                                "generation_config.json", "model-00001-of-00003.safetensors",
                                "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
                                "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"}));
  const std::string shard = "model-00002-of-00003.safetensors";
  EXPECT_EQ(digest_of(join_path(model->path, shard)), hub.digest("acme/sharded", shard));
  EXPECT_TRUE(hub.requests("consolidated.safetensors").empty());
  EXPECT_GT(model->bytes, 900000u);
}

TEST_F(PullTest, ACompleteModelNeedsNoNetwork) {
  ASSERT_OK(pull_now("hf:acme/small"));
  hub.clear();
  const auto again = pull_now("hf:acme/small");
  ASSERT_OK(again);
  EXPECT_EQ(again->path, cached("hf/acme--small@main"));
  EXPECT_TRUE(hub.requests().empty());
  EXPECT_EQ(digest_of(join_path(again->path, "empty.json")), sha256_hex(""));
}

TEST_F(PullTest, AMissingFileIsFetchedAloneAgain) {
  const auto model = pull_now("hf:acme/sharded");
  ASSERT_OK(model);
  const std::string path = join_path(model->path, "model-00003-of-00003.safetensors");
  ASSERT_EQ(::unlink(path.c_str()), 0);
  hub.clear();
  ASSERT_OK(pull_now("hf:acme/sharded"));
  EXPECT_EQ(hub.requests(".safetensors").size(), 1u);
  EXPECT_EQ(hub.requests("tokenizer.json").size(), 0u);
  EXPECT_EQ(digest_of(path), hub.digest("acme/sharded", "model-00003-of-00003.safetensors"));
}

TEST_F(PullTest, AnotherRevisionIsAnotherFolder) {
  ASSERT_OK(pull_now("hf:acme/small"));
  const auto tagged = pull_now("hf:acme/small@v1.0");
  ASSERT_OK(tagged);
  EXPECT_EQ(tagged->path, cached("hf/acme--small@v1.0"));
  const auto models = cached_models(options.cache_directory);
  ASSERT_OK(models);
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].spec, "hf:acme/small");
  EXPECT_EQ((*models)[1].spec, "hf:acme/small@v1.0");
  EXPECT_EQ((*models)[1].path, tagged->path);
  EXPECT_EQ((*models)[1].bytes, tagged->bytes);
}

TEST_F(PullTest, CachedModelsListsNothingUnfinished) {
  EXPECT_TRUE(cached_models(folder.path("nowhere"))->empty());
  hub.fault("model.safetensors", "status", "code=404");
  options.parallel = 1;
  EXPECT_FALSE(pull_now("hf:acme/small").ok());
  EXPECT_TRUE(path_exists(cached("hf/acme--small@main/config.json")));
  EXPECT_TRUE(cached_models(options.cache_directory)->empty());
}

TEST_F(PullTest, ModelScope) {
  const auto model = pull_now("modelscope:acme/sharded");
  ASSERT_OK(model);
  EXPECT_EQ(model->path, cached("modelscope/acme--sharded@master"));
  const std::string shard = "model-00001-of-00003.safetensors";
  EXPECT_EQ(digest_of(join_path(model->path, shard)), hub.digest("acme/sharded", shard));
  EXPECT_TRUE(model->revision.starts_with("sha256:"));
  for (const Json& request : hub.requests(shard)) EXPECT_EQ(request["revision"], "master");

  const auto split = pull_now("modelscope:acme/split-gguf@master");
  ASSERT_OK(split);
  EXPECT_EQ(split->path, cached("modelscope/acme--split-gguf@master/Q8/split-00001-of-00002.gguf"));
  EXPECT_TRUE(contains(failure(pull_now("modelscope:acme/none"), Code::kResource), "record not found"));
}

TEST_F(PullTest, GgufAloneOrByChoice) {
  const auto one = pull_now("hf:acme/one-gguf");
  ASSERT_OK(one);
  EXPECT_EQ(one->path, cached("hf/acme--one-gguf@main/one.Q4_1.gguf"));
  EXPECT_TRUE(hub.requests("mmproj-one.gguf").empty());

  const auto split = pull_now("hf:acme/split-gguf");
  ASSERT_OK(split);
  EXPECT_EQ(split->path, cached("hf/acme--split-gguf@main/Q8/split-00001-of-00002.gguf"));
  EXPECT_TRUE(path_exists(cached("hf/acme--split-gguf@main/Q8/split-00002-of-00002.gguf")));

  const std::string message = failure(pull_now("hf:acme/many-gguf"), Code::kUsage);
  EXPECT_TRUE(contains(message, "3 GGUF models")) << message;
  EXPECT_TRUE(contains(message, "many.Q4_K_M.gguf")) << message;
  options.include = {"*Q4_K_M*"};
  const auto chosen = pull_now("hf:acme/many-gguf");
  ASSERT_OK(chosen);
  EXPECT_EQ(base_name(chosen->path), "many.Q4_K_M.gguf");
  options.include = {"*Q8_0*"};
  const auto other = pull_now("hf:acme/many-gguf");
  ASSERT_OK(other);
  EXPECT_EQ(base_name(other->path), "many.Q8_0.gguf");
  EXPECT_TRUE(hub.requests("many.F16.gguf").empty());
  options.include = {"*Q3*"};
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/many-gguf"), Code::kUsage), "no file matches [\"*Q3*\"]"));
}

TEST_F(PullTest, RepositoriesThatAreNoModel) {
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/pickle"), Code::kUnsupported), "pytorch_model.bin"));
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/broken-index"), Code::kBadInput),
                       "model-00009-of-00009.safetensors"));
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/hostile-index"), Code::kBadInput), "does not list"));
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/none"), Code::kBadInput), "404"));
  EXPECT_TRUE(
      contains(failure(pull_now("hf:acme/small@v9"), Code::kBadInput), "check the name and the revision"));
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/no-commit"), Code::kBadInput), "'sha'"));
}

TEST_F(PullTest, HostileListingsWriteNothing) {
  for (const char* kind :
       {"dotdot", "inner", "absolute", "backslash", "nul", "empty", "slash", "dot", "own", "part", "long",
        "newline", "twice", "digest", "negative", "huge", "text", "fraction"}) {
    const auto model = pull_now(std::string("hf:acme/evil-") + kind);
    failure(model, Code::kBadInput);
    EXPECT_FALSE(model.ok()) << kind;
    EXPECT_TRUE(names_in(cached("hf/acme--evil-" + std::string(kind) + "@main")).empty()) << kind;
  }
  EXPECT_FALSE(path_exists("/tmp/outside.json"));
  for (const Json& request : hub.requests())
    EXPECT_FALSE(contains(request["path"].get<std::string>(), "resolve"));
}

TEST_F(PullTest, TooBigForTheDiskIsSaidBeforeTheFirstByte) {
  const std::string message = failure(pull_now("hf:acme/evil-disk"), Code::kResource);
  EXPECT_TRUE(contains(message, "are needed")) << message;
  EXPECT_EQ(sent(".safetensors"), 0u);
}

TEST_F(PullTest, TokenGoesToTheHubAndNowhereElse) {
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/secret"), Code::kResource), "access token"));
  options.token = "hf_right";
  hub.fault("model.safetensors", "redirect",
            "to=" + percent_encode(hub.other_host("/files/model.safetensors")));
  // The other host's file is another one; what matters is what it was sent.
  EXPECT_FALSE(pull_now("hf:acme/secret").ok());
  const auto elsewhere = hub.requests("/files/model.safetensors");
  ASSERT_EQ(elsewhere.size(), 1u);
  EXPECT_EQ(elsewhere[0]["authorization"], "");
  EXPECT_EQ(hub.requests("config.json")[0]["authorization"], "Bearer hf_right");
  EXPECT_OK(pull_now("hf:acme/secret"));

  hub.clear();
  hub.fault("FilePath", "status", "code=500");
  hub.fault("model.safetensors", "redirect",
            "to=" + percent_encode(hub.other_host("/files/model.safetensors")));
  EXPECT_FALSE(pull_now("modelscope:acme/secret").ok());
  EXPECT_EQ(hub.requests("config.json")[0]["cookie"], "m_session_id=hf_right");
  EXPECT_EQ(hub.requests("/files/model.safetensors")[0]["cookie"], "");
  EXPECT_EQ(hub.requests("/files/model.safetensors")[0]["authorization"], "");

  options.hugging_face_url = "http://hub.example";
  EXPECT_TRUE(contains(failure(pull_now("hf:acme/small"), Code::kUsage), "not encrypted"));
  options.token = "a\r\nX-Evil: 1";
  options.hugging_face_url = hub.url();
  const std::string message = failure(pull_now("hf:acme/small"), Code::kUsage);
  EXPECT_FALSE(contains(message, "Evil")) << message;
}

TEST_F(PullTest, RedirectsStayOnHttp) {
  hub.fault("/files/model.gguf", "redirect", "to=" + percent_encode("file:///etc/hostname"));
  const std::string message = failure(pull_now(hub.url("/files/model.gguf")), Code::kResource);
  EXPECT_TRUE(contains(message, "redirect") || contains(message, "rotocol")) << message;
  hub.fault("/files/model.gguf", "redirect", "times=-1&to=" + percent_encode(hub.url("/files/model.gguf")));
  EXPECT_TRUE(contains(failure(pull_now(hub.url("/files/model.gguf")), Code::kResource), "redirects"));
}

TEST_F(PullTest, Addresses) {
  const std::string address = hub.url("/files/model.gguf");
  options.sha256 = hub.digest("", "model.gguf");
  const auto model = pull_now(address + "?download=true");
  ASSERT_OK(model);
  EXPECT_EQ(base_name(model->path), "model.gguf");
  EXPECT_EQ(digest_of(model->path), options.sha256);
  EXPECT_EQ(model->revision, "sha256:" + options.sha256);

  options.sha256 = std::string(64, '0');
  const std::string message = failure(pull_now(address), Code::kBadInput);
  EXPECT_TRUE(contains(message, "expected " + options.sha256) &&
              contains(message, hub.digest("", "model.gguf")))
      << message;
  options.sha256.clear();

  EXPECT_TRUE(contains(failure(pull_now(hub.url("/files/page.gguf")), Code::kBadInput), "not GGUF"));
  EXPECT_OK(pull_now(hub.url("/files/model.safetensors")));
  EXPECT_TRUE(contains(failure(pull_now(hub.url("/files/none.gguf")), Code::kBadInput), "404"));
}

TEST_F(PullTest, SecretsOfAnAddressAreNotWrittenDown) {
  std::string address = hub.url("/files/model.gguf?signature=s3cr3t");
  address.insert(address.find("127"), "me:s3cr3t@");
  const auto model = pull_now(address);
  ASSERT_OK(model);
  EXPECT_EQ(model->spec, address);
  EXPECT_FALSE(contains(model->path, "s3cr3t")) << model->path;
  const std::string place = model->path.substr(0, model->path.rfind('/'));
  EXPECT_FALSE(contains(*read_file(join_path(place, "fettle-pull.json")), "s3cr3t"));
  const auto other = pull_now(address + "2");
  ASSERT_OK(other);
  EXPECT_NE(other->path, model->path);
}

TEST_F(PullTest, AProxyOfTheEnvironmentIsUsed) {
  ::setenv("http_proxy", hub.url().c_str(), 1);
  options.sha256 = hub.digest("", "model.gguf");
  const auto model = pull_now("http://models.example/files/model.gguf");
  ::unsetenv("http_proxy");
  ASSERT_OK(model);
  EXPECT_EQ(hub.requests("model.gguf")[0]["host"], "models.example");
}

TEST_F(PullTest, AnotherDigestThanTheCachedOneFetchesAgain) {
  ASSERT_OK(pull_now(hub.url("/files/model.gguf")));
  hub.clear();
  options.sha256 = std::string(64, 'a');
  EXPECT_FALSE(pull_now(hub.url("/files/model.gguf")).ok());
  EXPECT_EQ(hub.requests("model.gguf").size(), 1u);
}

TEST_F(PullTest, SpecsThatAreNone) {
  for (const char* spec : {"",
                           "hf:",
                           "hf:name",
                           "hf:a/b/c",
                           "hf:../x",
                           "hf:a/..",
                           "hf:a/b@",
                           "hf:a/b@../c",
                           "hf:a/b@-x",
                           "hf:-a/b",
                           "modelscope:x",
                           "pip:",
                           "pip:-r",
                           "pip:a==",
                           "pip:a==-b",
                           "pip:a b",
                           "pip:a;b",
                           "pip:../a",
                           "ftp://h/a.gguf",
                           "https://",
                           "https://h/",
                           "https://h/a.zip",
                           "https://h/a%2fb.gguf",
                           "https://h/a%00.gguf",
                           "https://h/%zz.gguf",
                           "http://example.com/a.gguf",
                           "/no/such/path"}) {
    const auto model = pull_now(spec);
    EXPECT_FALSE(model.ok()) << spec;
    if (model.ok()) continue;
    EXPECT_TRUE(model.error().code() == Code::kUsage || model.error().code() == Code::kBadInput) << spec;
  }
  EXPECT_TRUE(contains(failure(pull_now("acme/small"), Code::kUsage), "did you mean hf:acme/small?"));
  EXPECT_FALSE(contains(failure(pull_now("https://me:secret@h/a.zip?sig=1"), Code::kUsage), "secret"));
  options.sha256 = "12";
  EXPECT_TRUE(contains(failure(pull_now("hf:a/b"), Code::kUsage), "64 hexadecimal"));
}

TEST_F(PullTest, APathIsItself) {
  ASSERT_OK(write_file_atomic(folder.path("m.gguf"), "GGUF1234"));
  const auto file = pull_now(folder.path("m.gguf"));
  ASSERT_OK(file);
  EXPECT_EQ(file->path, folder.path("m.gguf"));
  EXPECT_EQ(file->bytes, 8u);
  const auto directory = pull_now(folder.path());
  ASSERT_OK(directory);
  EXPECT_EQ(directory->path, folder.path());
}

TEST_F(PullTest, FolderNamesStayApart) {
  options.include = {"*.json"};
  const auto a = pull_now("hf:acme/small");
  options.include = {"config.json", "?*"};
  const auto b = pull_now("hf:acme/small");
  options.include.clear();
  const auto c = pull_now("hf:acme/small@refs/pr/1");
  ASSERT_OK(a);
  ASSERT_OK(b);
  ASSERT_OK(c);
  EXPECT_NE(a->path, b->path);
  EXPECT_EQ(names_in(a->path), (std::vector<std::string>{"config.json", "empty.json", "fettle-pull.json"}));
  EXPECT_FALSE(contains(c->path.substr(cached("").size()), "refs/pr"));
}

// As a user who may not write: root may write everywhere.
int as_nobody(const std::function<int()>& work) {
  if (::getuid() == 0 && ::setuid(65534) != 0) return 99;
  return work();
}

TEST_F(PullTest, AReadOnlyCacheServesWhatItHasAndSaysWhatItCannot) {
  ASSERT_OK(pull_now("hf:acme/small"));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  for (const char* path : {"", "models", "models/hf", "models/hf/acme--small@main"})
    ASSERT_EQ(::chmod(join_path(options.cache_directory, path).c_str(), 0555), 0);
  const int code = Child([&] {
                     return as_nobody([&] {
                       if (!pull_now("hf:acme/small").ok()) return 1;
                       const auto other = pull_now("hf:acme/one-gguf");
                       if (other.ok() || other.error().code() != Code::kResource) return 2;
                       return contains(other.error().message(), options.cache_directory) ? 0 : 3;
                     });
                   }).wait();
  EXPECT_EQ(code, 0);
  for (const char* path : {"", "models", "models/hf", "models/hf/acme--small@main"})
    ::chmod(join_path(options.cache_directory, path).c_str(), 0755);
}

TEST_F(PullTest, DamagedManifestsMeanIncomplete) {
  const auto model = pull_now("hf:acme/small");
  ASSERT_OK(model);
  const std::string manifest = join_path(model->path, "fettle-pull.json");
  for (const char* text :
       {"", "{", "[]", "{\"format\":2}", "{\"format\":1,\"spec\":\"x\",\"revision\":\"y\",\"files\":3}",
        "{\"format\":1,\"spec\":\"x\",\"revision\":\"y\",\"files\":[{\"name\":\"../../"
        "x\",\"size\":1,\"sha256\":\"\"}]}"}) {
    ASSERT_OK(write_file_atomic(manifest, text));
    EXPECT_TRUE(cached_models(options.cache_directory)->empty()) << text;
    EXPECT_OK(pull_now("hf:acme/small"));
    EXPECT_EQ(cached_models(options.cache_directory)->size(), 1u) << text;
  }
}

}  // namespace
}  // namespace fettle
