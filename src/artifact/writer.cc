#include "artifact/writer.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "graph/text.h"

namespace fettle {

namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kLargestFile = uint64_t{4} << 30;  // a new weights file begins after this
constexpr uint64_t kCommitBytes = uint64_t{32} << 20;

std::string weights_file(int number) { return fmt::format("weights-{:05}.bin", number); }

// The journal: a first line with the job's key, then one line for every weight that is wholly on disk.
Result<std::vector<WeightEntry>> read_journal(const std::string& path, const std::string& key) {
  TRY(const std::string text, read_file(path));
  std::vector<WeightEntry> entries;
  size_t at = 0;
  for (int line = 0; at < text.size(); ++line) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) break;  // the line that a crash cut short
    const std::string_view content = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (line == 0) {
      if (content != key) return bad_input("{}: belongs to another job", path);
      continue;
    }
    TRY(const Json json, parse_json(content, path));
    TRY(WeightEntry entry, entry_from_json(json, path));
    if (!entry.file.starts_with("weights-"))
      return bad_input("{}: weight @{} is in '{}'; expected a weights file", path, entry.name, entry.file);
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

Result<ArtifactWriter> ArtifactWriter::open(const std::string& job_directory, const std::string& key) {
  TRY_STATUS(make_directories(job_directory));
  const std::string journal = join_path(job_directory, "journal.jsonl");
  auto found = read_journal(journal, key);
  if (!found.ok()) {
    for (int n = 1; path_exists(join_path(job_directory, weights_file(n))); ++n)
      TRY_STATUS(remove_tree(join_path(job_directory, weights_file(n))));
    TRY(FileWriter fresh, FileWriter::create(journal));
    TRY_STATUS(fresh.write((key + "\n").data(), key.size() + 1));
    TRY_STATUS(fresh.sync());
    return ArtifactWriter(job_directory, std::move(fresh));
  }
  std::string kept = key + "\n";
  for (const WeightEntry& entry : *found) kept += dump_json(entry_to_json(entry), -1) + "\n";
  TRY(FileWriter again, FileWriter::resume(journal, kept.size()));
  ArtifactWriter writer(job_directory, std::move(again));
  for (WeightEntry& entry : *found) {
    writer.file_number_ = std::max(1, std::atoi(entry.file.c_str() + std::string("weights-").size()));
    writer.file_offset_ = entry.offset + entry.bytes;
    writer.done_.insert(entry.name);
    writer.entries_.push_back(std::move(entry));
  }
  return writer;
}

uint64_t ArtifactWriter::bytes_done() const {
  uint64_t sum = 0;
  for (const WeightEntry& e : entries_) sum += e.bytes;
  return sum;
}

// Goes on behind what the file holds already, whose hash is then made anew.
Status ArtifactWriter::open_file() {
  const std::string path = join_path(directory_, weights_file(file_number_));
  TRY(FileWriter file, FileWriter::resume(path, file_offset_));
  file_hash_.emplace();
  if (file_offset_ > 0) {
    TRY(const auto before, MappedFile::open(path));
    file_hash_->update(before->bytes().data(), before->bytes().size());
  }
  weights_.emplace(std::move(file));
  committed_ = file_offset_;
  return {};
}

Status ArtifactWriter::close_file() {
  if (!weights_) return {};
  TRY_STATUS(commit());
  TRY_STATUS(weights_->close());
  weights_.reset();
  file_digests_[weights_file(file_number_)] = file_hash_->hex();
  return {};
}

Status ArtifactWriter::begin_weight(WeightEntry entry) {
  CHECK(!has(entry.name), "@{}", entry.name);
  if (file_offset_ > kLargestFile) {
    TRY_STATUS(close_file());
    ++file_number_;
    file_offset_ = 0;
  }
  if (!weights_) TRY_STATUS(open_file());
  const std::string padding((kAlignment - weights_->offset() % kAlignment) % kAlignment, '\0');
  file_hash_->update(padding.data(), padding.size());
  TRY_STATUS(weights_->write(padding.data(), padding.size()));
  current_ = std::move(entry);
  current_.file = weights_file(file_number_);
  current_.offset = weights_->offset();
  weight_hash_.emplace();
  return {};
}

Status ArtifactWriter::append(const std::byte* data, uint64_t size) {
  Status written;
  team_->run([&](int worker) {
    if (worker == 1) return weight_hash_->update(data, size);
    if (worker == 2) return file_hash_->update(data, size);
    written = weights_->write(data, size);
    weights_->flush_soon();
  });
  return written;
}

Status ArtifactWriter::end_weight() {
  current_.bytes = weights_->offset() - current_.offset;
  current_.sha256 = weight_hash_->hex();
  file_offset_ = weights_->offset();
  uncommitted_ += dump_json(entry_to_json(current_), -1) + "\n";
  done_.insert(current_.name);
  entries_.push_back(std::move(current_));
  return file_offset_ - committed_ < kCommitBytes ? Status() : commit();
}

Status ArtifactWriter::commit() {
  if (uncommitted_.empty()) return {};
  TRY_STATUS(weights_->sync());
  TRY_STATUS(journal_.write(uncommitted_.data(), uncommitted_.size()));
  TRY_STATUS(journal_.sync());
  uncommitted_.clear();
  committed_ = file_offset_;
  return {};
}

Result<std::string> ArtifactWriter::finish(const Content& content, Json facts) {
  TRY_STATUS(close_file());
  std::vector<std::string> names;
  const auto write = [&](const std::string& name, const std::string& text) {
    names.push_back(name);
    return write_file_atomic(join_path(directory_, name), text);
  };
  TRY_STATUS(write("graph.fir", print_graph(content.graph)));
  if (content.draft) TRY_STATUS(write("draft.fir", print_graph(*content.draft)));
  TRY_STATUS(write("plan.json", dump_json(plan_to_json(content.plan)) + "\n"));
  TRY_STATUS(make_directories(join_path(directory_, "tokenizer")));
  for (const auto& [name, text] : content.text_files) TRY_STATUS(write("tokenizer/" + name, text));
  if (path_exists(join_path(directory_, "known_answer.safetensors")))
    names.push_back("known_answer.safetensors");
  for (int n = 1; path_exists(join_path(directory_, weights_file(n))); ++n) names.push_back(weights_file(n));
  std::sort(names.begin(), names.end());

  Json files = Json::array();
  std::string lines;
  for (const std::string& name : names) {
    TRY(const uint64_t size, file_size(join_path(directory_, name)));
    std::string digest = file_digests_[name];
    if (digest.empty()) {
      TRY(digest, sha256_file(join_path(directory_, name)));
    }
    files.push_back({{"name", name}, {"size", size}, {"sha256", digest}});
    lines += fmt::format("{} {} {}\n", name, size, digest);
  }
  const std::string content_digest = sha256_hex(lines);
  Json manifest = {{"schema_version", kManifestVersion}};
  for (const auto& [key, value] : facts.items()) manifest[key] = value;
  manifest["content_digest"] = content_digest;
  manifest["files"] = std::move(files);
  manifest["weights"] = Json::array();
  for (const WeightEntry& entry : entries_) manifest["weights"].push_back(entry_to_json(entry));
  TRY_STATUS(write_file_atomic(join_path(directory_, "manifest.json"), dump_json(manifest) + "\n"));
  return content_digest;
}

Status publish(const std::string& job_directory, const std::string& final_directory, bool replace) {
  TRY_STATUS(remove_tree(join_path(job_directory, "journal.jsonl")));
  if (path_exists(final_directory)) {
    if (!replace)
      return make_error(Code::kUsage, "'{}' exists already; remove it, choose another -o, or give --force",
                        final_directory);
    const std::string old = final_directory + ".replaced";
    TRY_STATUS(remove_tree(old));
    TRY_STATUS(rename_path(final_directory, old));
    TRY_STATUS(rename_path(job_directory, final_directory));
    return remove_tree(old);
  }
  return rename_path(job_directory, final_directory);
}

}  // namespace fettle
