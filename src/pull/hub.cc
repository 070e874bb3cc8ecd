#include "pull/hub.h"

#include <algorithm>

#include "base/hash.h"
#include "pull/url.h"

namespace fettle {

namespace {

Result<std::optional<uint64_t>> size_field(const JsonReader& entry, std::string_view field) {
  if (!entry.has(field)) return std::optional<uint64_t>();
  TRY(const int64_t size, entry.integer(field));
  if (size < 0) return bad_input("{}: field '{}' is {}; expected a size", entry.what(), field, size);
  return std::optional<uint64_t>(static_cast<uint64_t>(size));
}

Result<const Json*> list_field(const JsonReader& reader, const char* field) {
  const Json& object = reader.json();
  if (!object.is_object() || !object.contains(field) || !object.at(field).is_array())
    return bad_input("{}: field '{}' is missing; expected a list of files", reader.what(), field);
  return &object.at(field);
}

// ModelScope names no commit; the digest of what is listed identifies the state just as well.
std::string listing_digest(const Listing& listing) {
  std::vector<std::string> lines;
  for (const RemoteFile& file : listing.files)
    lines.push_back(fmt::format("{} {} {}\n", file.name, file.size.value_or(0), file.sha256));
  std::sort(lines.begin(), lines.end());
  Sha256 hash;
  for (const std::string& line : lines) hash.update(line.data(), line.size());
  return "sha256:" + hash.hex();
}

std::string listing_url(const HubRequest& request) {
  const std::string id = percent_encode(request.id, "/");
  const std::string revision = percent_encode(request.revision);
  if (request.kind == HubKind::kHuggingFace)
    return fmt::format("{}/api/models/{}/revision/{}?blobs=true", request.base_url, id, revision);
  return fmt::format("{}/api/v1/models/{}/repo/files?Revision={}&Recursive=true", request.base_url, id,
                     revision);
}

}  // namespace

Result<std::vector<std::string>> hub_headers(const HubRequest& request) {
  if (request.token.empty()) return std::vector<std::string>{};
  TRY(const UrlParts parts, split_url(request.base_url));
  if (parts.scheme != "https" && !is_loopback(parts.host))
    return make_error(Code::kUsage,
                      "'{}' is not encrypted, the access token would be readable on the way; use an "
                      "https address or no token",
                      shown_url(request.base_url));
  const bool printable =
      std::all_of(request.token.begin(), request.token.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (!printable || request.token.find(';') != std::string::npos)
    return make_error(Code::kUsage,
                      "the access token has characters that no token has; expected printable ASCII");
  std::vector<std::string> headers = {"Authorization: Bearer " + request.token};
  // Its older interfaces know the token only as the session cookie.
  if (request.kind == HubKind::kModelScope) headers.push_back("Cookie: m_session_id=" + request.token);
  return headers;
}

Result<Listing> parse_hugging_face(const std::string& text, const HubRequest& request) {
  const std::string where = "hf:" + request.id;
  TRY(const Json json, parse_json(text, where));
  const JsonReader reader(json, where);
  Listing listing;
  TRY(listing.revision, reader.string("sha"));
  const bool commit = listing.revision.size() >= 7 && listing.revision.size() <= 64 &&
                      listing.revision.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!commit)
    return bad_input("{}: field 'sha' is {}; expected a commit", where, dump_json(json["sha"], -1));
  TRY(const Json* siblings, list_field(reader, "siblings"));
  for (const Json& sibling : *siblings) {
    const JsonReader entry(sibling, where + ": siblings");
    RemoteFile file;
    TRY(file.name, entry.string("rfilename"));
    TRY(file.size, size_field(entry, "size"));
    if (entry.has("lfs")) {
      TRY(const JsonReader lfs, entry.object("lfs"));
      TRY(file.sha256, lfs.string_or("sha256", ""));
    }
    // The commit, not the branch: all files of one pull belong together even if the branch moves meanwhile.
    file.url = fmt::format("{}/{}/resolve/{}/{}", request.base_url, percent_encode(request.id, "/"),
                           listing.revision, percent_encode(file.name, "/"));
    listing.files.push_back(std::move(file));
  }
  TRY_STATUS(check_listing(listing, where));
  return listing;
}

Result<Listing> parse_model_scope(const std::string& text, const HubRequest& request) {
  const std::string where = "modelscope:" + request.id;
  TRY(const Json json, parse_json(text, where));
  const JsonReader reader(json, where);
  TRY(const int64_t code, reader.integer_or("Code", 200));
  TRY(const bool success, reader.boolean_or("Success", true));
  if (code != 200 || !success) {
    TRY(const std::string message, reader.string_or("Message", ""));
    return make_error(Code::kResource, "{}: the hub refuses with code {}: {}", where, code,
                      dump_json(Json(message.substr(0, 200)), -1));
  }
  TRY(const JsonReader data, reader.object("Data"));
  TRY(const Json* files, list_field(data, "Files"));
  Listing listing;
  for (const Json& item : *files) {
    const JsonReader entry(item, where + ": Files");
    TRY(const std::string type, entry.string_or("Type", "blob"));
    if (type == "tree") continue;
    RemoteFile file;
    TRY(file.name, entry.string("Path"));
    TRY(file.size, size_field(entry, "Size"));
    TRY(file.sha256, entry.string_or("Sha256", ""));
    file.sha256 = lower_case(file.sha256);
    file.url = fmt::format("{}/api/v1/models/{}/repo?Revision={}&FilePath={}", request.base_url,
                           percent_encode(request.id, "/"), percent_encode(request.revision),
                           percent_encode(file.name));
    listing.files.push_back(std::move(file));
  }
  TRY_STATUS(check_listing(listing, where));
  listing.revision = listing_digest(listing);
  return listing;
}

Result<Listing> list_hub(const HubRequest& request) {
  TRY(std::vector<std::string> headers, hub_headers(request));
  const HttpRequest http{
      .url = listing_url(request), .headers = std::move(headers), .timing = request.timing};
  TRY(const std::string text, get_text(http, request.retries));
  return request.kind == HubKind::kHuggingFace ? parse_hugging_face(text, request)
                                               : parse_model_scope(text, request);
}

}  // namespace fettle
