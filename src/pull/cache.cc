#include "pull/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "pull/listing.h"

namespace fettle {

namespace {

constexpr int64_t kManifestFormat = 1;
constexpr size_t kLongestFolderName = 150;

std::string manifest_path(const std::string& folder) { return join_path(folder, "fettle-pull.json"); }
std::string revision_path(const std::string& folder) {
  return join_path(folder, "fettle-pull.unfinished.json");
}

Result<Manifest> parse_manifest(const std::string& path) {
  TRY(const Json json, read_json_file(path));
  const JsonReader reader(json, path);
  TRY(const int64_t format, reader.integer("format"));
  if (format != kManifestFormat)
    return unsupported("{}: format {}; expected {}", path, format, kManifestFormat);
  Manifest manifest;
  TRY(manifest.spec, reader.string("spec"));
  TRY(manifest.revision, reader.string("revision"));
  TRY(manifest.package_sha256, reader.string_or("package_sha256", ""));
  if (!json.contains("files") || !json["files"].is_array())
    return bad_input("{}: field 'files' is missing", path);
  for (const Json& item : json["files"]) {
    const JsonReader entry(item, path);
    StoredFile file;
    TRY(file.name, entry.string("name"));
    TRY_STATUS(check_remote_name(file.name, path));
    TRY(const int64_t size, entry.integer("size"));
    file.size = static_cast<uint64_t>(size);
    TRY(file.sha256, entry.string("sha256"));
    manifest.files.push_back(std::move(file));
  }
  return manifest;
}

}  // namespace

std::string model_folder(const std::string& cache, const std::string& kind, const std::string& name) {
  std::string readable;
  bool exact = name.size() <= kLongestFolderName;
  for (const char c : name.substr(0, kLongestFolderName)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("._-@").find(c) != std::string_view::npos;
    if (plain)
      readable += c;
    else if (c == '/')
      readable += "--";
    else
      readable += '_';
    exact = exact && (plain || c == '/');
  }
  // ORG/NAME reads ORG--NAME; what would read the same, or like a hidden or lock file, is told apart by its
  // digest.
  const bool one_slash = std::count(name.begin(), name.end(), '/') <= 1;
  if (!exact || !one_slash || name.find("--") != std::string::npos || name.find("-/") != std::string::npos ||
      name.find("/-") != std::string::npos || readable.starts_with('.') || readable.ends_with(".lock"))
    readable += "~" + sha256_hex(name).substr(0, 12);
  return join_path(join_path(join_path(cache, "models"), kind), readable);
}

Status write_manifest(const std::string& folder, const Manifest& manifest) {
  Json files = Json::array();
  for (const StoredFile& file : manifest.files)
    files.push_back(Json{{"name", file.name}, {"size", file.size}, {"sha256", file.sha256}});
  Json json{{"format", kManifestFormat}, {"spec", manifest.spec}, {"revision", manifest.revision}};
  if (!manifest.package_sha256.empty()) json["package_sha256"] = manifest.package_sha256;
  json["files"] = std::move(files);
  return write_file_atomic(manifest_path(folder), dump_json(json) + "\n");
}

std::optional<Manifest> read_manifest(const std::string& folder) {
  const std::string path = manifest_path(folder);
  if (!path_exists(path)) return std::nullopt;
  Result<Manifest> manifest = parse_manifest(path);
  if (!manifest.ok()) {
    log_info("{}; the model counts as incomplete", manifest.error().message());
    return std::nullopt;
  }
  for (const StoredFile& file : manifest->files) {
    const Result<uint64_t> size = file_size(join_path(folder, file.name));
    if (!size.ok() || *size != file.size) return std::nullopt;
  }
  return std::move(manifest).value();
}

PulledModel pulled_model(const std::string& folder, const Manifest& manifest) {
  PulledModel model{.spec = manifest.spec, .path = folder, .bytes = 0, .revision = manifest.revision};
  std::vector<std::string> names;
  for (const StoredFile& file : manifest.files) {
    model.bytes += file.size;
    names.push_back(file.name);
  }
  const std::string inside = model_file_or_folder(names);
  if (!inside.empty()) model.path = join_path(folder, inside);
  return model;
}

std::string unfinished_revision(const std::string& folder) {
  for (const std::string& path : {revision_path(folder), manifest_path(folder)}) {
    if (!path_exists(path)) continue;
    const Result<Json> json = read_json_file(path);
    if (!json.ok()) continue;
    const Result<std::string> revision = JsonReader(*json, path).string_or("revision", "");
    if (revision.ok() && !revision->empty()) return *revision;
  }
  return "";
}

Status begin_revision(const std::string& folder, const std::string& revision) {
  TRY_STATUS(write_file_atomic(revision_path(folder), dump_json(Json{{"revision", revision}}) + "\n"));
  ::unlink(
      manifest_path(folder).c_str());  // it was found incomplete, and must not vouch for the files to come
  return {};
}

void end_revision(const std::string& folder) { ::unlink(revision_path(folder).c_str()); }

Result<FolderLock> FolderLock::wait_for(const std::string& folder) {
  const std::string path = folder + ".lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return errno_error(errno, "create the lock file", path);
  FolderLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) log_warning("another process is fetching into '{}'; waiting for it", folder);
  while (::flock(fd, LOCK_EX) != 0)
    if (errno != EINTR) return errno_error(errno, "lock", path);
  return lock;
}

FolderLock::FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::string default_cache_directory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (const std::string own = variable("FETTLE_CACHE"); !own.empty()) return own;
  if (const std::string xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return join_path(xdg, "fettle");
  const std::string home = variable("HOME");
  return join_path(join_path(home.empty() ? "." : home, ".cache"), "fettle");
}

Result<std::vector<PulledModel>> cached_models(const std::string& cache_directory) {
  const std::string root =
      join_path(cache_directory.empty() ? default_cache_directory() : cache_directory, "models");
  std::vector<PulledModel> models;
  if (!path_exists(root)) return models;
  TRY(const std::vector<std::string> kinds, list_directory(root));
  for (const std::string& kind : kinds) {
    const std::string kind_path = join_path(root, kind);
    if (!is_directory(kind_path)) continue;
    TRY(const std::vector<std::string> names, list_directory(kind_path));
    for (const std::string& name : names) {
      const std::string folder = join_path(kind_path, name);
      if (!is_directory(folder)) continue;
      if (const std::optional<Manifest> manifest = read_manifest(folder))
        models.push_back(pulled_model(folder, *manifest));
    }
  }
  std::sort(models.begin(), models.end(), [](const PulledModel& a, const PulledModel& b) {
    return std::tie(a.spec, a.path) < std::tie(b.spec, b.path);
  });
  return models;
}

}  // namespace fettle
