#include "quality/source_cache.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>

#include "base/log.h"

namespace fettle {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kDigestBytes = 64;  // of hex, at the end of every entry

// An entry whose digest is right; it is young again.
std::shared_ptr<const MappedFile> open_entry(const std::string& path) {
  if (!path_exists(path)) return nullptr;
  auto file = MappedFile::open(path);
  if (!file.ok() || (*file)->bytes().size() < kDigestBytes) return nullptr;
  const auto bytes = (*file)->bytes();
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (sha256_hex(all.substr(0, all.size() - kDigestBytes)) != all.substr(all.size() - kDigestBytes)) {
    log_warning("{}: damaged; it is made again", path);
    return nullptr;
  }
  std::error_code ignored;
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
  return *file;
}

// Removes what was used longest ago until the rest is within the bound. What another process writes just now
// is the youngest; what a killed one left grows old.
void trim(const std::string& directory, uint64_t bound) {
  struct Entry {
    fs::file_time_type used;
    uint64_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  uint64_t total = 0;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;  // by another process
    const uint64_t bytes = it->file_size(gone);
    const auto used = gone ? fs::file_time_type() : it->last_write_time(gone);
    if (gone) continue;
    entries.push_back({used, bytes, it->path()});
    total += bytes;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (size_t i = 0; i < entries.size() && total > bound; ++i) {
    fs::remove(entries[i].path, error);
    total -= entries[i].bytes;
  }
}

}  // namespace

struct SourceTrace::Recording {
  FileWriter file;
  Sha256 hash;
  std::string temporary, path, directory;
  uint64_t bound;
};

SourceTrace::SourceTrace() = default;
SourceTrace::SourceTrace(SourceTrace&&) noexcept = default;
SourceTrace::~SourceTrace() {
  if (recording_) ::unlink(recording_->temporary.c_str());
}

void SourceTrace::record(const float* data, uint64_t count) {
  if (!recording_) return;
  const uint64_t bytes = count * sizeof(float);
  Status written;
  if (recording_->file.offset() + bytes > recording_->bound / 2)
    written = make_error(Code::kResource, "it would take more than half of the {} bytes of the cache",
                         recording_->bound);
  else
    written = recording_->file.write(data, bytes);
  recording_->hash.update(data, bytes);
  if (written.ok()) return;
  log_info("what the source does is not remembered: {}", written.error().message());
  ::unlink(recording_->temporary.c_str());
  recording_.reset();
}

Result<const float*> SourceTrace::replay(uint64_t count) {
  const auto bytes = entry_->bytes();
  if (at_ + count * sizeof(float) > bytes.size() - kDigestBytes)
    return make_error(Code::kInternal, "'{}' is shorter than what it is read for; remove it", entry_->path());
  const auto* data = reinterpret_cast<const float*>(bytes.data() + at_);
  at_ += count * sizeof(float);
  return data;
}

void SourceTrace::finish() {
  if (!recording_) return;
  const auto close = [](Recording& r) -> Status {
    const std::string digest = r.hash.hex();
    TRY_STATUS(r.file.write(digest.data(), digest.size()));
    TRY_STATUS(r.file.close());
    return rename_path(r.temporary, r.path);
  };
  const Status closed = close(*recording_);
  if (!closed.ok()) {
    log_info("what the source did is not remembered: {}", closed.error().message());
    return;
  }
  trim(recording_->directory, recording_->bound);
  recording_.reset();
}

SourceCache::SourceCache(std::string directory, std::string_view source_digest, Isa isa, uint64_t bound)
    : directory_(std::move(directory)), bound_(bound) {
  const auto program = sha256_file("/proc/self/exe");
  if (program.ok()) key_ = fmt::format("{} {} {}", source_digest, *program, isa_name(isa));
}

std::string SourceCache::path_of(std::string_view what) const {
  return join_path(directory_, sha256_hex(fmt::format("{} {}", key_, what)).substr(0, 32));
}

std::optional<Json> SourceCache::find(std::string_view what) const {
  if (key_.empty()) return std::nullopt;
  const std::string path = path_of(what);
  const auto entry = open_entry(path);
  if (!entry) return std::nullopt;
  const auto bytes = entry->bytes();
  auto json = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size() - kDigestBytes}, path);
  if (!json.ok()) return std::nullopt;
  return std::move(json).value();
}

void SourceCache::keep(std::string_view what, const Json& value) const {
  if (key_.empty()) return;
  const std::string text = dump_json(value, -1);
  Status kept = make_directories(directory_);
  if (kept.ok()) kept = write_file_atomic(path_of(what), text + sha256_hex(text));
  if (!kept.ok()) return log_info("what the source did is not remembered: {}", kept.error().message());
  trim(directory_, bound_);
}

SourceTrace SourceCache::trace(std::string_view what) const {
  SourceTrace trace;
  if (key_.empty()) return trace;
  const std::string path = path_of(what);
  trace.entry_ = open_entry(path);
  if (trace.entry_) return trace;
  static std::atomic<uint64_t> next{0};
  const std::string temporary = path + fmt::format(".tmp{}-{}", ::getpid(), next.fetch_add(1));
  Status made = make_directories(directory_);
  if (made.ok()) {
    auto file = FileWriter::create(temporary);
    if (file.ok())
      trace.recording_ = std::make_unique<SourceTrace::Recording>(
          SourceTrace::Recording{std::move(file).value(), Sha256(), temporary, path, directory_, bound_});
    else
      made = file.error();
  }
  if (!made.ok()) log_info("what the source does is not remembered: {}", made.error().message());
  return trace;
}

std::string tokens_text(const std::vector<std::vector<int32_t>>& windows) {
  std::string text;
  for (const std::vector<int32_t>& window : windows) {
    for (const int32_t id : window) text += fmt::format("{} ", id);
    text += '\n';
  }
  return text;
}

}  // namespace fettle
