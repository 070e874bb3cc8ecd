#include "runtime/sweep.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "runtime/executor_impl.h"

namespace fettle {

Result<Sweep> Sweep::create(Executor& executor, std::span<const std::vector<int32_t>> sequences) {
  Sweep sweep(executor);
  sweep.sequences_ = sequences;
  const Executor::Impl& impl = *executor.impl_;
  const int64_t largest = std::min(impl.options.max_tokens, impl.options.max_logit_rows);
  int64_t longest = 1, row = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t length = static_cast<int64_t>(sequences[s].size());
    longest = std::max(longest, length);
    for (int64_t at = 0; at < length; at += largest) {
      sweep.chunks_.push_back({s, at, std::min(largest, length - at), row});
      row += sweep.chunks_.back().count;
    }
    for (const int32_t id : sequences[s])
      if (id < 0 || id >= impl.model.graph.vocab)
        return bad_input("token id {} is outside the model's vocabulary of {}", id, impl.model.graph.vocab);
  }
  TRY_STATUS(sweep.find_streams());
  TRY_STATUS(executor.cache().reserve(sweep.place_, longest));
  return sweep;
}

Status Sweep::find_streams() {
  const Executor::Impl& impl = *executor_->impl_;
  const std::vector<Node>& nodes = impl.model.graph.nodes;
  streams_.assign(impl.parts.size(), -1);
  for (size_t p = 1; p < impl.parts.size(); ++p) {
    const ValueId boundary = impl.parts[p].begin;
    for (size_t id = static_cast<size_t>(boundary); id < nodes.size(); ++id)
      for (const ValueId input : nodes[id].inputs) {
        if (input >= boundary || input == streams_[p]) continue;
        const ValueType& type = nodes[static_cast<size_t>(input)].type;
        if (streams_[p] >= 0 || type.form != Form::kF32 || type.rows != Rows::kTokens ||
            (width_ != 0 && width_ != type.cols))
          return unsupported("layer {}: reads more than one fp32 value of the layers before it",
                             nodes[id].layer);
        streams_[p] = input;
        width_ = type.cols;
      }
  }
  return {};
}

Sweep::Sweep(Sweep&& other) noexcept
    : executor_(std::exchange(other.executor_, nullptr)),
      sequences_(other.sequences_),
      chunks_(std::move(other.chunks_)),
      streams_(std::move(other.streams_)),
      place_(std::move(other.place_)),
      width_(other.width_),
      part_(other.part_) {}

Sweep::~Sweep() {
  if (!executor_) return;
  executor_->cache().release(place_);
  close();
}

void Sweep::close() {
  if (part_ != SIZE_MAX) executor_->impl_->close(part_);
  part_ = SIZE_MAX;
}

size_t Sweep::parts() const { return executor_->impl_->parts.size(); }
int64_t Sweep::layer(size_t part) const {
  const Executor::Impl& impl = *executor_->impl_;
  return impl.model.graph.nodes[static_cast<size_t>(impl.parts[part].begin)].layer;
}
int64_t Sweep::rows() const { return chunks_.empty() ? 0 : chunks_.back().row + chunks_.back().count; }

Status Sweep::open(size_t part) {
  CHECK(part < parts(), "{} of {}", part, parts());
  if (part_ != part) close();
  part_ = part;
  return executor_->impl_->open(part);
}

std::span<const float> Sweep::run(const Chunk& chunk, float* stream) {
  CHECK(part_ != SIZE_MAX);
  Executor::Impl& impl = *executor_->impl_;
  std::vector<int64_t> positions(static_cast<size_t>(chunk.count)), rows(static_cast<size_t>(chunk.count));
  std::iota(positions.begin(), positions.end(), chunk.first);
  std::iota(rows.begin(), rows.end(), 0);
  place_.expect_prompt(0, static_cast<int64_t>(sequences_[chunk.sequence].size()),
                       impl.model.plan.expand_grid);
  const SequenceRows sequence = sequence_rows(place_, 0, chunk.first, chunk.count);
  Run run{impl.pool,
          impl.pool.size(),
          chunk.count,
          chunk.count,
          std::span(sequences_[chunk.sequence])
              .subspan(static_cast<size_t>(chunk.first), static_cast<size_t>(chunk.count)),
          positions,
          rows,
          {&sequence, 1},
          impl.scratch,
          impl.rope_tables};
  const auto for_stream = [&](size_t part, auto move) {
    const Value& value = impl.frame.values[streams_[part]];
    for (int64_t r = 0; r < chunk.count; ++r)
      move(value.row(r), stream + r * width_, static_cast<size_t>(width_) * sizeof(float));
  };
  if (part_ > 0)
    for_stream(part_, [](float* inside, const float* outside, size_t n) { std::memcpy(inside, outside, n); });
  impl.execute(part_, part_ + 1, run);
  if (part_ + 1 < parts()) {
    for_stream(part_ + 1,
               [](const float* inside, float* outside, size_t n) { std::memcpy(outside, inside, n); });
    return {};
  }
  const Value& logits = impl.frame.values.back();
  return {logits.row(0), static_cast<size_t>(chunk.count * logits.type.cols)};
}

Result<ResidualStream> ResidualStream::create(const Sweep& sweep, const std::string& directory) {
  ResidualStream out;
  out.width_ = sweep.width();
  const uint64_t bytes = static_cast<uint64_t>(sweep.rows() * sweep.width()) * sizeof(float);
  TRY(out.rows_, directory.empty() ? HugeBuffer::allocate(bytes) : HugeBuffer::in_file(directory, bytes));
  return out;
}

void ResidualStream::copy_from(const ResidualStream& other) {
  std::memcpy(rows_.data(), other.rows_.data(), rows_.size());
}

}  // namespace fettle
