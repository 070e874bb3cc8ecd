// The expanded form of latent attention: keys and values of a head are made from the cached latent, a split
// of positions at a time, into blocks of the worker's scratch, then attended to as those of any other head.
// It costs less for each pair of query and key than the absorbed form, and the making of keys and values: it
// pays where many rows of one sequence share them. Work is shared out by (sequence, some heads); a row's
// result does not depend on which.
#pragma once

#include <memory>
#include <vector>

#include "runtime/step.h"

namespace fettle {

class ExpandedAttention {
 public:
  struct Args {
    Value q, out;
    const BoundLinear &key_rows, &value;  // of every head [plain, latent], [value, latent]
    int64_t heads, rotated, max_rows;
    float scale;
    Form inner_form;
    KvCache* cache;
    int64_t cache_index;
    Isa isa;
  };
  static Result<std::unique_ptr<ExpandedAttention>> create(const Args& args);

  int64_t scratch_floats() const { return place(nullptr).floats; }
  void make_tasks(const Run& run);  // by one worker, before a barrier
  void run(Run& run, int worker);   // by all, after it

 private:
  // Some heads of a sequence's expanded rows.
  struct Task {
    const SequenceRows* sequence;
    int64_t head_begin, head_end;
  };
  // One worker's room.
  struct Room {
    std::byte* inputs;                     // rounded latents, block after block of the split
    float *rotated, *latent;               // [split, rotated], [block, latent + rotated]
    float *keys, *values;                  // [block, plain + rotated], [block, value]
    std::byte* blocks;                     // of one head
    float *running, *partial, *attention;  // [heads][rows, 2 + value], [rows, 2 + value]
    int64_t floats;
  };
  struct Positions {
    int64_t begin, end;
  };

  explicit ExpandedAttention(const Args& args);
  Room place(float* base) const;
  int64_t input_bytes() const;
  void attend(const Task& task, const Room& room) const;
  void read_split(const SequenceRows& s, Positions split, const Room& room) const;
  void expand(int64_t head, Positions split, const Room& room) const;
  void attend_split(const Task& task, int64_t head, int64_t split, const Room& room) const;
  void finish(const Task& task, const Room& room) const;

  Args a_;
  int64_t latent_, plain_, value_, partial_row_;
  KvShape stored_, made_;  // in the cache; in scratch
  const AttentionKernel *cached_, *kernel_;
  QuantiseRowFn quantise_;
  std::vector<int32_t> table_;  // blocks of scratch are used for every split anew
  std::vector<Task> tasks_;
};

}  // namespace fettle
