#include "pull/fetch.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "pull/part_file.h"
#include "pull/url.h"

namespace fettle {

namespace {

// What the files of one fetch share.
struct Shared {
  const FetchOptions& options;
  Progress& progress;
  std::atomic<uint64_t> done{0};
  std::atomic<bool> stop{false};

  void add(uint64_t bytes) { progress.set(done += bytes); }
  void take_back(uint64_t bytes) { progress.set(done -= bytes); }
  void found(uint64_t bytes) {
    done += bytes;
    progress.skip(bytes);
  }
};

bool is_weak(const std::string& validator) { return validator.starts_with("W/"); }

// A page that says "log in" must not become a model where no digest would notice.
Status check_kind(const std::string& path, const RemoteFile& file) {
  const bool gguf = file.name.ends_with(".gguf"), safetensors = file.name.ends_with(".safetensors");
  if (!gguf && !safetensors) return {};
  TRY(const auto mapped, MappedFile::open(path));
  const std::string_view bytes(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
  if (gguf ? bytes.starts_with("GGUF") : bytes.size() > 8 && bytes[8] == '{') return {};
  return bad_input("{}: the content is not {}: it begins with {}", shown_url(file.url),
                   gguf ? "GGUF" : "safetensors", dump_json(Json(std::string(bytes.substr(0, 16))), -1));
}

// One file, over as many requests as it takes.
class FileFetch {
 public:
  FileFetch(const RemoteFile& file, Shared& shared, HttpClient& client)
      : file_(file),
        shared_(shared),
        client_(client),
        final_path_(join_path(shared.options.folder, file.name)) {}

  Result<StoredFile> run() {
    TRY_STATUS(prepare_place(shared_.options.folder, file_.name));
    TRY(const std::optional<StoredFile> present, already_there());
    if (present) return *present;
    TRY(std::optional<StoredFile> stored, download());
    // Old bytes of unknown history may have spoiled it; all of it anew can tell.
    if (!stored) {
      TRY(stored, download());
    }
    return *stored;
  }

 private:
  Result<std::optional<StoredFile>> already_there();
  Result<std::optional<StoredFile>> download();
  HttpOutcome attempt(PartFile& part, bool* progress);
  Status on_head(PartFile& part, const HttpHead& head);
  Status check_total(std::optional<uint64_t> total);
  std::string where() const { return shown_url(file_.url); }

  const RemoteFile& file_;
  Shared& shared_;
  HttpClient& client_;
  std::string final_path_;
  std::optional<uint64_t> total_;  // as the server said, where the listing did not
  bool try_anew_ = false;          // the attempt ended on purpose, the next one starts from nothing
};

Result<std::optional<StoredFile>> FileFetch::already_there() {
  if (!path_exists(final_path_)) return std::optional<StoredFile>();
  TRY(const uint64_t size, file_size(final_path_));
  const bool plausible =
      (!file_.size || *file_.size == size) && (shared_.options.same_revision || !file_.sha256.empty());
  if (plausible) {
    TRY(const std::string digest, sha256_file(final_path_));
    if (file_.sha256.empty() || file_.sha256 == digest) {
      shared_.found(size);
      return std::optional<StoredFile>({file_.name, size, digest});
    }
  }
  if (::unlink(final_path_.c_str()) != 0) return errno_error(errno, "replace", final_path_);
  return std::optional<StoredFile>();
}

// Nothing in the result: the digest was wrong, but only part of the bytes came just now.
Result<std::optional<StoredFile>> FileFetch::download() {
  TRY(PartFile part, PartFile::open(final_path_));
  const bool usable = !part.validator().empty() || !file_.sha256.empty();
  if (part.size() > 0 && (!usable || (file_.size && part.size() > *file_.size))) TRY_STATUS(part.restart(""));
  shared_.found(part.size());
  const bool whole = file_.size && part.size() == *file_.size;
  if (!whole) {
    const FetchOptions& o = shared_.options;
    TRY_STATUS(with_retries(file_.name, o.retries, *o.timing, &shared_.stop,
                            [&](bool* progress) { return attempt(part, progress); }));
  }
  const StoredFile stored{file_.name, part.size(), part.digest()};
  if (!file_.sha256.empty() && stored.sha256 != file_.sha256) {
    shared_.take_back(part.size());
    const bool mixed = part.found() > 0;
    TRY_STATUS(part.discard());
    if (mixed) return std::optional<StoredFile>();
    return bad_input(
        "{}: SHA-256 is {}, expected {}; the file was deleted; the source or something on the way to it "
        "is damaged",
        where(), stored.sha256, file_.sha256);
  }
  if (file_.sha256.empty() && !file_.size) {
    Status kind = check_kind(final_path_ + std::string(kPartSuffix), file_);
    if (!kind.ok()) {
      TRY_STATUS(part.discard());
      return std::move(kind).error();
    }
  }
  TRY_STATUS(part.become_final());
  return std::optional<StoredFile>(stored);
}

HttpOutcome FileFetch::attempt(PartFile& part, bool* progress) {
  const FetchOptions& o = shared_.options;
  HttpRequest request{.url = file_.url, .headers = o.headers, .timing = o.timing, .stop = &shared_.stop};
  if (part.size() > 0) {
    request.headers.push_back(fmt::format("Range: bytes={}-", part.size()));
    // If-Range compares strongly; a weak validator is compared with the answer's instead.
    if (!part.validator().empty() && !is_weak(part.validator()))
      request.headers.push_back("If-Range: " + part.validator());
  }
  try_anew_ = false;
  std::optional<uint64_t> whole_at;  // from the answer to a range that begins at the end
  const uint64_t before = part.size();
  const HttpSink sink{.head = [&](const HttpHead& head) -> Status {
                        if (head.status == 416) whole_at = head.range_total;
                        return head.status == 200 || head.status == 206 ? on_head(part, head) : Status();
                      },
                      .body = [&](std::span<const char> bytes) -> Status {
                        const std::optional<uint64_t> limit = file_.size ? file_.size : total_;
                        if (limit && part.size() + bytes.size() > *limit)
                          return bad_input("{}: the server sends more than the {} bytes it declared", where(),
                                           *limit);
                        TRY_STATUS(part.append(bytes));
                        shared_.add(bytes.size());
                        return {};
                      }};
  HttpOutcome out = client_.get(request, sink);
  *progress = part.size() > before;
  if (out.http_status == 416 && before > 0) {
    if (whole_at == before && (!file_.size || *file_.size == before)) return {};
    try_anew_ = true;
  }
  if (try_anew_) {
    shared_.take_back(part.size());
    if (Status status = part.restart(""); !status.ok()) return {.status = std::move(status)};
    out.retriable = true;
  }
  const std::optional<uint64_t> expected = file_.size ? file_.size : total_;
  if (out.status.ok() && expected && part.size() != *expected) {
    out.status =
        make_error(Code::kResource, "{}: ended after {} of {} bytes", where(), part.size(), *expected);
    out.retriable = true;
  }
  return out;
}

Status FileFetch::check_total(std::optional<uint64_t> total) {
  if (total && *total > kMaxFileBytes) return bad_input("{}: the server declares {} bytes", where(), *total);
  if (total && file_.size && *total != *file_.size)
    return bad_input("{}: the server declares {} bytes, the listing {}; the source is inconsistent", where(),
                     *total, *file_.size);
  total_ = total;
  return {};
}

Status FileFetch::on_head(PartFile& part, const HttpHead& head) {
  const std::string& validator = head.etag.empty() ? head.last_modified : head.etag;
  if (head.status == 206) {
    const bool changed = !part.validator().empty() && !validator.empty() && validator != part.validator();
    if (changed || head.range_begin != part.size()) {
      try_anew_ = true;
      return make_error(Code::kResource, "{}: the remote file changed or the server answers another range",
                        where());
    }
    return check_total(head.range_total);
  }
  // 200: all of it, because nothing was there, or the server knows no ranges, or the file changed.
  if (part.size() > 0) {
    log_info("{}: starts again from the beginning", file_.name);
    shared_.take_back(part.size());
  }
  TRY_STATUS(check_total(head.length));
  if (total_ && !file_.size) {
    TRY_STATUS(check_free_space(shared_.options.folder, *total_));
    shared_.progress.set_total(*total_);
  }
  return part.restart(validator);
}

// Bytes still to come. Files that are there already may be refetched; counting them in would refuse too much.
uint64_t missing_bytes(const std::vector<RemoteFile>& files, const std::string& folder) {
  uint64_t needed = 0;
  for (const RemoteFile& file : files) {
    const std::string path = join_path(folder, file.name);
    uint64_t present = 0;
    for (const std::string& candidate : {path, path + std::string(kPartSuffix)})
      if (const Result<uint64_t> size = file_size(candidate); size.ok()) present += *size;
    const uint64_t size = file.size.value_or(0);
    needed += size - std::min(size, present);
  }
  return needed;
}

}  // namespace

Status check_free_space(const std::string& folder, uint64_t needed) {
  struct statvfs st {};
  if (::statvfs(folder.c_str(), &st) != 0) return errno_error(errno, "look at the disk of", folder);
  const uint64_t free = static_cast<uint64_t>(st.f_bavail) * st.f_frsize;
  if (needed <= free) return {};
  return make_error(Code::kResource,
                    "'{}': {} are needed, {} are free; free some space or choose another cache directory",
                    folder, format_bytes(needed), format_bytes(free));
}

Result<std::string> prepare_place(const std::string& folder, const std::string& name) {
  const size_t slash = name.rfind('/');
  const std::string parent = slash == std::string::npos ? folder : join_path(folder, name.substr(0, slash));
  TRY_STATUS(make_directories(parent));
  return join_path(folder, name);
}

Result<std::vector<StoredFile>> fetch_files(const std::vector<RemoteFile>& files,
                                            const FetchOptions& options) {
  TRY_STATUS(check_free_space(options.folder, missing_bytes(files, options.folder)));
  uint64_t total = 0;
  for (const RemoteFile& file : files) total += file.size.value_or(0);
  Progress progress(options.label, total, ProgressUnit::kBytes);
  Shared shared{options, progress};

  std::vector<StoredFile> stored(files.size());
  std::mutex mutex;
  std::optional<Error> first_error;
  const int threads = static_cast<int>(std::min<size_t>(std::clamp(options.parallel, 1, 64), files.size()));
  ThreadPool pool(std::max(threads, 1));
  std::atomic<size_t> next{0};
  pool.run([&](int) {
    HttpClient client;  // one a thread: its connection serves one file after the other
    for (size_t i = next++; i < files.size() && !shared.stop; i = next++) {
      Result<StoredFile> file = FileFetch(files[i], shared, client).run();
      const std::lock_guard lock(mutex);
      if (file.ok())
        stored[i] = std::move(file).value();
      else if (!first_error)
        first_error = std::move(file).error();
      if (first_error) shared.stop = true;
    }
  });
  progress.finish();
  if (first_error) return *std::move(first_error);
  return stored;
}

}  // namespace fettle
