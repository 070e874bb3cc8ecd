// Writing an artifact, weight by weight, so that a killed job goes on where it was. Everything happens in a
// job directory beside the final one; publish() renames it when whole.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "artifact/artifact.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/thread_pool.h"

namespace fettle {

class ArtifactWriter {
 public:
  // Continues the job in `job_directory` if its key (digest of source and plan) is the same; otherwise starts
  // it anew.
  static Result<ArtifactWriter> open(const std::string& job_directory, const std::string& key);

  bool has(const std::string& weight) const { return done_.count(weight) != 0; }
  uint64_t bytes_done() const;
  // begin_weight, then its bytes in pieces, then end_weight.
  Status begin_weight(WeightEntry entry);
  Status append(const std::byte* data, uint64_t size);
  Status end_weight();
  // Complete weights survive a crash from here on; goes by itself every few megabytes.
  Status commit();

  // What is wholly written.
  const std::vector<WeightEntry>& entries() const { return entries_; }

  // Writes graphs, plan, text files and manifest. `facts` are the manifest's fields besides those written
  // here. known_answer.safetensors, if wanted, must lie in the job directory already.
  struct Content {
    const Graph& graph;
    const std::optional<Graph>& draft;
    const Plan& plan;
    const std::map<std::string, std::string>& text_files;
  };
  Result<std::string> finish(const Content& content, Json facts);

  const std::string& directory() const { return directory_; }

 private:
  ArtifactWriter(std::string directory, FileWriter journal)
      : directory_(std::move(directory)), journal_(std::move(journal)) {}

  Status open_file();
  Status close_file();

  std::string directory_;
  FileWriter journal_;
  std::string uncommitted_;  // lines of the journal
  std::optional<FileWriter> weights_;
  std::optional<Sha256> file_hash_, weight_hash_;
  std::map<std::string, std::string> file_digests_;  // of the files that this process has ended
  // The hash of the file, that of the weight, and writing: each takes about as long as the others.
  std::unique_ptr<ThreadPool> team_ = std::make_unique<ThreadPool>(3);
  WeightEntry current_;
  std::vector<WeightEntry> entries_;
  std::set<std::string> done_;
  uint64_t file_offset_ = 0, committed_ = 0;
  int file_number_ = 1;
};

// Makes `directory` appear under its final name; an artifact already there is replaced only with `replace`.
Status publish(const std::string& job_directory, const std::string& final_directory, bool replace);

}  // namespace fettle
