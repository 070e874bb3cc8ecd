#include "runtime/expanded_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fettle {

namespace {

constexpr int64_t kHeadsTogether = 4;  // of a task: they share the reading and rounding of the latents
constexpr int64_t kSplitBlocks = kSplitTokens / kBlockTokens;

// The result over a split joins that over the splits before it; rows of 2 + v_dim: maximum, sum, output.
void add_partial(const float* partial, int64_t v_dim, float* running) {
  const float top = std::max(partial[0], running[0]);
  const float before = std::exp(running[0] - top), now = std::exp(partial[0] - top);
  running[0] = top;
  for (int64_t i = 1; i < 2 + v_dim; ++i) running[i] = running[i] * before + partial[i] * now;
}

}  // namespace

ExpandedAttention::ExpandedAttention(const Args& args)
    : a_(args),
      latent_(args.value.k),
      plain_(args.key_rows.n),
      value_(args.value.n),
      partial_row_(2 + value_),
      stored_(args.cache->shape(args.cache_index)),
      made_{stored_.type == KvType::kF32 ? KvType::kF32 : KvType::kBF16, 1, plain_ + args.rotated, value_},
      cached_(find_attention_kernel(stored_.type, args.isa)),
      kernel_(find_attention_kernel(made_.type, args.isa)),
      quantise_(find_quantise_row(activation_of(args.inner_form), args.isa)) {
  for (int64_t b = 0; b < args.cache->total_blocks(args.cache->group(args.cache_index)); ++b)
    table_.push_back(static_cast<int32_t>(b % kSplitBlocks));
}

Result<std::unique_ptr<ExpandedAttention>> ExpandedAttention::create(const Args& args) {
  auto attention = std::unique_ptr<ExpandedAttention>(new ExpandedAttention(args));
  if (!attention->cached_ || !attention->kernel_)
    return unsupported("no attention kernel for a cache of {}", kv_type_name(attention->stored_.type));
  return attention;
}

// Of one block's latents.
int64_t ExpandedAttention::input_bytes() const {
  const int64_t bytes = activation_bytes(activation_of(a_.inner_form), kBlockTokens, latent_);
  return (bytes + 63) / 64 * 64;
}

ExpandedAttention::Room ExpandedAttention::place(float* base) const {
  const auto line = (reinterpret_cast<uintptr_t>(base) + 63) / 64 * 64;
  WorkPlacer placer(reinterpret_cast<std::byte*>(line));
  Room room{};
  room.inputs = placer.take(static_cast<uint64_t>(kSplitBlocks * input_bytes()));
  room.rotated = placer.take_array<float>(kSplitTokens * a_.rotated);
  room.latent = placer.take_array<float>(kBlockTokens * (latent_ + a_.rotated));
  room.keys = placer.take_array<float>(kBlockTokens * (plain_ + a_.rotated));
  room.values = placer.take_array<float>(kBlockTokens * value_);
  room.blocks = placer.take(static_cast<uint64_t>(kSplitBlocks * kv_block_bytes(made_)));
  room.running = placer.take_array<float>(kHeadsTogether * a_.max_rows * partial_row_);
  room.partial = placer.take_array<float>(a_.max_rows * partial_row_);
  room.attention = placer.take_array<float>(attention_scratch_floats(made_, 1));
  room.floats = static_cast<int64_t>(placer.used() / sizeof(float)) + 16;
  return room;
}

void ExpandedAttention::make_tasks(const Run& run) {
  tasks_.clear();
  int64_t heads = 0;
  for (const SequenceRows& s : run.sequences) heads += s.expanded.end > s.expanded.begin ? a_.heads : 0;
  const int64_t together = std::clamp<int64_t>(heads / (2 * run.workers), 1, kHeadsTogether);
  for (const SequenceRows& s : run.sequences) {
    if (s.expanded.end <= s.expanded.begin) continue;
    for (int64_t h = 0; h < a_.heads; h += together)
      tasks_.push_back({&s, h, std::min(h + together, a_.heads)});
  }
}

void ExpandedAttention::run(Run& run, int worker) {
  const Room room = place(run.scratch[worker].data());
  for (size_t i = static_cast<size_t>(worker); i < tasks_.size(); i += static_cast<size_t>(run.workers))
    attend(tasks_[i], room);
}

void ExpandedAttention::attend(const Task& task, const Room& room) const {
  const SequenceRows& s = *task.sequence;
  const int64_t end = s.first_position + s.expanded.end;
  for (int64_t begin = 0; begin < end; begin += kSplitTokens) {
    const Positions split{begin, std::min(end, begin + kSplitTokens)};
    read_split(s, split, room);
    for (int64_t head = task.head_begin; head < task.head_end; ++head) {
      expand(head, split, room);
      attend_split(task, head, begin / kSplitTokens, room);
    }
  }
  if (end > kSplitTokens) finish(task, room);
}

void ExpandedAttention::read_split(const SequenceRows& s, Positions split, const Room& room) const {
  const int64_t width = latent_ + a_.rotated;
  for (int64_t at = split.begin; at < split.end; at += kBlockTokens) {
    const int64_t count = std::min(kBlockTokens, split.end - at), first = at - split.begin;
    cached_->read_block(stored_, s.block(*a_.cache, a_.cache_index, at), count, room.latent, width);
    std::byte* input = room.inputs + first / kBlockTokens * input_bytes();
    for (int64_t r = 0; r < count; ++r) {
      const float* row = room.latent + r * width;
      quantise_(row, latent_, input, count, r);
      std::copy_n(row + latent_, a_.rotated, room.rotated + (first + r) * a_.rotated);
    }
  }
}

void ExpandedAttention::expand(int64_t head, Positions split, const Room& room) const {
  const int64_t width = plain_ + a_.rotated;
  for (int64_t at = split.begin; at < split.end; at += kBlockTokens) {
    const int64_t count = std::min(kBlockTokens, split.end - at), first = at - split.begin;
    const auto multiply = [&](const BoundLinear& linear, float* y, int64_t ld) {
      linear.kernel(count)({.weight = linear.weight.data + head * linear.weight.member_bytes,
                            .n = linear.n,
                            .k = linear.k,
                            .x = room.inputs + first / kBlockTokens * input_bytes(),
                            .t = count,
                            .y = y,
                            .ldy = ld,
                            .bias = nullptr,
                            .accumulate = false,
                            .tile_begin = 0,
                            .tile_end = tile_count(linear.n)});
    };
    multiply(a_.key_rows, room.keys, width);
    multiply(a_.value, room.values, value_);
    for (int64_t r = 0; r < count; ++r)
      std::copy_n(room.rotated + (first + r) * a_.rotated, a_.rotated, room.keys + r * width + plain_);
    kernel_->pack_block(made_, {room.keys, width, room.values, value_, count},
                        room.blocks + first / kBlockTokens * kv_block_bytes(made_));
  }
}

// Rows that a split reaches; where there are several, the first writes what the others join.
void ExpandedAttention::attend_split(const Task& task, int64_t head, int64_t split, const Room& room) const {
  const SequenceRows& s = *task.sequence;
  const int64_t rows = s.expanded.end - s.expanded.begin, position = s.first_position + s.expanded.begin;
  const int64_t token = std::max<int64_t>(0, split * kSplitTokens - position);
  float* running = room.running + ((head - task.head_begin) * a_.max_rows) * partial_row_;
  const bool only = position + rows <= kSplitTokens;
  kernel_->run({.kv = made_,
                .heads = 1,
                .scale = a_.scale,
                .q = a_.q.row(s.row_begin + s.expanded.begin) + head * made_.k_dim,
                .q_stride = a_.q.ld,
                .out = a_.out.row(s.row_begin + s.expanded.begin) + head * value_,
                .out_stride = a_.out.ld,
                .pool = room.blocks,
                .block_stride = kv_block_bytes(made_),
                .table = table_.data(),
                .first_position = position,
                .kv_head = 0,
                .token_begin = token,
                .token_end = rows,
                .split = split,
                .partial = only         ? nullptr
                           : split == 0 ? running
                                        : room.partial,
                .scratch = room.attention});
  if (split == 0) return;
  for (int64_t t = token; t < rows; ++t)
    add_partial(room.partial + (t - token) * partial_row_, value_, running + t * partial_row_);
}

void ExpandedAttention::finish(const Task& task, const Room& room) const {
  const SequenceRows& s = *task.sequence;
  const int64_t rows = s.expanded.end - s.expanded.begin;
  for (int64_t head = task.head_begin; head < task.head_end; ++head)
    for (int64_t t = 0; t < rows; ++t) {
      const float* running = room.running + ((head - task.head_begin) * a_.max_rows + t) * partial_row_;
      float* out = a_.out.row(s.row_begin + s.expanded.begin + t) + head * value_;
      const float inverse = 1.0f / running[1];
      for (int64_t c = 0; c < value_; ++c) out[c] = running[2 + c] * inverse;
    }
}

}  // namespace fettle
