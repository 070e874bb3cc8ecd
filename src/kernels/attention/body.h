// Attention over blocks of the cache, written once over vec16.h; each ISA's .cc includes it (see vec16.h). A
// tile of R rows shares every loaded vector of K and V; a row's own operations and their order are the same
// whatever R is and whichever rows are beside it. The cache's form is a class with
//   kPerWord     numbers in a 32-bit word, and so positions that share a word of V
//   kRowFloats   floats that one word's counterpart in a row (of q, of the weights) takes
//   kVectors     vectors a row accumulates side by side: what the registers hold with kMostRows rows
//   load, dot    16 words; sum + words * their counterparts in a row, which is 16 times the same
//   first_only   the second number of every word replaced by zero
//   put          stores 32 numbers as a row's counterparts, and adds them, as stored, to the lanes of a sum
#pragma once

namespace fettle {
namespace {

constexpr int kMostRows = 6;
constexpr int kBlockVectors = static_cast<int>(kBlockTokens / kLanes);
constexpr float kLeast = -std::numeric_limits<float>::infinity();

// One kv head's part of one block. The next block's lies `ahead` floats further on and is fetched from memory
// meanwhile: 1.4x in decode.
struct Block {
  const float* k;
  const float* v;
  int64_t k_words, v_padded;
  int64_t ahead;
};

// Rows in scratch.
struct Rows {
  float* q;     // [row][q_stride]
  float* out;   // [row][v_padded], not normalised
  float* sums;  // [row][16]
  float* tops;  // [row]
  int64_t q_stride, out_stride;

  Rows from(int64_t row) const {
    return {q + row * q_stride, out + row * out_stride, sums + row * kLanes, tops + row, q_stride,
            out_stride};
  }
};

struct alignas(64) Weights {
  float scores[kMostRows][kBlockTokens];
  float rounded[kMostRows][kBlockTokens];
  float decays[kLanes];
};

template <class Form, int R>
void score_rows(const Block& block, const Rows& rows, Weights& weights) {
  constexpr int V = Form::kVectors;
  for (int first = 0; first < kBlockVectors; first += V) {
    const float* k = block.k + first * block.k_words * kLanes;
    F32x16 sums[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) sums[r][j] = broadcast(0.0f);
    for (int64_t i = 0; i < block.k_words; ++i) {
      typename Form::Words words[V];
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) {
        const float* p = k + (j * block.k_words + i) * kLanes;
        words[j] = Form::load(p);
        __builtin_prefetch(p + block.ahead);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < V; ++j)
          sums[r][j] = Form::dot(sums[r][j], words[j], rows.q + r * rows.q_stride + i * Form::kRowFloats);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) store(weights.scores[r] + (first + j) * kLanes, sums[r][j]);
  }
}

// Scores to weights exp(score - maximum so far); positions from counts[r] on weigh exactly zero.
template <class Form, int R>
void weigh_rows(const int64_t* counts, const Rows& rows, Weights& weights) {
  alignas(64) float before[kLanes] = {}, after[kLanes] = {};
  for (int r = 0; r < R; ++r) {
    float* scores = weights.scores[r];
    F32x16 top = broadcast(kLeast);
    for (int j = 0; j < kBlockVectors; ++j) {
      F32x16 score = load(scores + j * kLanes);
      if (counts[r] < kBlockTokens) {
        score = select(first_lanes(counts[r] - j * kLanes), score, broadcast(kLeast));
        store(scores + j * kLanes, score);
      }
      top = max(top, score);
    }
    before[r] = rows.tops[r];
    after[r] = std::max(rows.tops[r], reduce_max(top));
    rows.tops[r] = after[r];
  }
  store(weights.decays, exp_approx(sub(load(before), load(after))));
  for (int r = 0; r < R; ++r) {
    const F32x16 top = broadcast(after[r]);
    F32x16 sum = mul(load(rows.sums + r * kLanes), broadcast(weights.decays[r]));
    for (int j = 0; j < kBlockVectors; j += 2) {
      const F32x16 a = exp_approx(sub(load(weights.scores[r] + j * kLanes), top));
      const F32x16 b = exp_approx(sub(load(weights.scores[r] + (j + 1) * kLanes), top));
      sum = Form::put(sum, a, b, weights.rounded[r] + j * kLanes / Form::kPerWord * Form::kRowFloats);
    }
    store(rows.sums + r * kLanes, sum);
  }
}

// C vectors of columns, from `column` on, over the first `steps` words of V.
template <class Form, int R, int C>
void add_columns(const Block& block, const Rows& rows, const Weights& weights, int64_t column,
                 int64_t steps) {
  F32x16 out[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c)
      out[r][c] =
          mul(load(rows.out + r * rows.out_stride + column + c * kLanes), broadcast(weights.decays[r]));
  const float* v = block.v + column;
  for (int64_t step = 0; step < steps; ++step, v += block.v_padded) {
    typename Form::Words words[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      words[c] = Form::load(v + c * kLanes);
      __builtin_prefetch(v + c * kLanes + block.ahead);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c)
        out[r][c] = Form::dot(out[r][c], words[c], weights.rounded[r] + step * Form::kRowFloats);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) store(rows.out + r * rows.out_stride + column + c * kLanes, out[r][c]);
}

// What a row has beyond the steps that its tile has in common. Nothing beyond its last position is read as a
// number.
template <class Form>
void add_rest(const Block& block, float* out, const float* weights, int64_t steps, int64_t count) {
  const int64_t whole = count / Form::kPerWord;
  const bool half = count % Form::kPerWord != 0;
  if (steps == whole && !half) return;
  for (int64_t column = 0; column < block.v_padded; column += kLanes) {
    F32x16 sum = load(out + column);
    const float* v = block.v + column;
    for (int64_t step = steps; step < whole; ++step)
      sum = Form::dot(sum, Form::load(v + step * block.v_padded), weights + step * Form::kRowFloats);
    if (half)
      sum = Form::dot(sum, Form::first_only(Form::load(v + whole * block.v_padded)),
                      weights + whole * Form::kRowFloats);
    store(out + column, sum);
  }
}

// Adds one block to R rows; row r attends to its first counts[r] >= 1 positions.
template <class Form, int R>
void add_block(const Block& block, const Rows& rows, const int64_t* counts) {
  Weights weights;
  score_rows<Form, R>(block, rows, weights);
  weigh_rows<Form, R>(counts, rows, weights);
  const int64_t steps = *std::min_element(counts, counts + R) / Form::kPerWord;
  int64_t column = 0;
  for (; column + Form::kVectors * kLanes <= block.v_padded; column += Form::kVectors * kLanes)
    add_columns<Form, R, Form::kVectors>(block, rows, weights, column, steps);
  for (; column < block.v_padded; column += kLanes)
    add_columns<Form, R, 1>(block, rows, weights, column, steps);
  for (int r = 0; r < R; ++r)
    add_rest<Form>(block, rows.out + r * rows.out_stride, weights.rounded[r], steps, counts[r]);
}

template <class Form>
void add_block_in_tiles(const Block& block, const Rows& rows, const int64_t* counts, int64_t count) {
  using AddBlock = void (*)(const Block&, const Rows&, const int64_t*);
  static constexpr AddBlock kAddBlock[kMostRows] = {add_block<Form, 1>, add_block<Form, 2>,
                                                    add_block<Form, 3>, add_block<Form, 4>,
                                                    add_block<Form, 5>, add_block<Form, 6>};
  for (int64_t row = 0; row < count;) {
    const int64_t left = count - row, tiles = (left + kMostRows - 1) / kMostRows;
    const int64_t size = (left + tiles - 1) / tiles;
    kAddBlock[size - 1](block, rows.from(row), counts + row);
    row += size;
  }
}

// The rows of a long step lie far apart, where no processor guesses the next one.
inline void fetch_row(const AttentionArgs& args, const AttentionRow& row) {
  for (int64_t i = 0; i < args.kv.k_dim; i += kLanes) __builtin_prefetch(row.q + i);
  for (int64_t c = 0; row.partial == nullptr && c < args.kv.v_dim; c += kLanes)
    __builtin_prefetch(row.out + c, 1);
}

template <class Form>
void begin_row(const AttentionArgs& args, const AttentionRow& row, const Rows& rows) {
  const F32x16 scale = broadcast(args.scale), zero = broadcast(0.0f);
  for (int64_t i = 0; i < args.kv.k_dim; i += 2 * kLanes) {
    const int64_t left = args.kv.k_dim - i;
    const F32x16 a = mul(load_part(row.q + i, left), scale);
    const F32x16 b = left > kLanes ? mul(load_part(row.q + i + kLanes, left - kLanes), scale) : zero;
    Form::put(zero, a, b, rows.q + i / Form::kPerWord * Form::kRowFloats);
  }
  for (int64_t c = 0; c < rows.out_stride; c += kLanes) store(rows.out + c, zero);
  store(rows.sums, zero);
  rows.tops[0] = kLeast;
}

// Without partials the row is finished here, with the bits of merge_splits of one split.
void end_row(const AttentionArgs& args, const AttentionRow& row, const Rows& rows) {
  const float sum = reduce_add(load(rows.sums));
  float* out = row.out;
  F32x16 factor = broadcast(1.0f / sum);
  if (row.partial != nullptr) {
    row.partial[0] = rows.tops[0];
    row.partial[1] = sum;
    out = row.partial + 2;
    factor = broadcast(1.0f);
  }
  for (int64_t c = 0; c < args.kv.v_dim; c += kLanes)
    store_part(out + c, mul(load(rows.out + c), factor), args.kv.v_dim - c);
}

// Rows [begin, begin + count) of the call, count <= kRowsAtOnce. Their positions ascend, so the rows that
// reach a block are the last.
template <class Form>
void attend_rows(const AttentionArgs& args, const Rows& rows, float* v_room, int64_t begin, int64_t count) {
  const BlockLayout layout(args.kv);
  int64_t positions[kRowsAtOnce] = {}, counts[kRowsAtOnce];
  for (int64_t r = 0; r < count; ++r) fetch_row(args, attention_row(args, begin + r));
  for (int64_t r = 0; r < count; ++r) {
    const AttentionRow row = attention_row(args, begin + r);
    positions[r] = row.position;
    begin_row<Form>(args, row, rows.from(r));
  }
  const int64_t split_begin = args.split * kSplitTokens;
  const int64_t end = std::min(positions[count - 1] + 1, split_begin + kSplitTokens);
  int64_t first = 0;
  for (int64_t position = split_begin; position < end; position += kBlockTokens) {
    while (positions[first] < position) ++first;
    for (int64_t r = first; r < count; ++r) counts[r] = std::min(positions[r] + 1 - position, kBlockTokens);
    const int32_t* number = args.table + position / kBlockTokens;
    const std::byte* bytes = args.pool + number[0] * args.block_stride;
    const float* head = reinterpret_cast<const float*>(bytes) + args.kv_head * layout.head_words();
    const bool last = position + kBlockTokens >= end;
    const int64_t ahead = last || is_coded(args.kv.type)
                              ? 0
                              : (number[1] - number[0]) * args.block_stride / int64_t{sizeof(float)};
    if constexpr (Form::kPerWord == 2)
      if (is_coded(args.kv.type)) {
        float* k_room = v_room + layout.v_part_words();
        open_block(args.kv, bytes, k_room);
        head = k_room;
      }
    if (layout.latent) v_of_k<Form::kPerWord>(layout, head, v_room);
    const Block block = {head, layout.latent ? v_room : head + layout.k_part_words(), layout.k_words,
                         layout.v_padded, ahead};
    add_block_in_tiles<Form>(block, rows.from(first), counts + first, count - first);
  }
  for (int64_t r = 0; r < count; ++r) end_row(args, attention_row(args, begin + r), rows.from(r));
}

template <class Form>
void attend(const AttentionArgs& args) {
  check_attention_args(args);
  const int64_t q_stride = padded_q(args.kv.k_dim), out_stride = BlockLayout(args.kv).v_padded;
  const uintptr_t line = (reinterpret_cast<uintptr_t>(args.scratch) + 63) / 64 * 64;
  float* q = reinterpret_cast<float*>(line);
  float* out = q + kRowsAtOnce * q_stride;
  float* sums = out + kRowsAtOnce * out_stride;
  float* tops = sums + kRowsAtOnce * kLanes;
  float* v_room = tops + (kRowsAtOnce + kLanes - 1) / kLanes * kLanes;
  const Rows rows = {q, out, sums, tops, q_stride, out_stride};
  const int64_t row_count = attention_row_count(args);
  for (int64_t begin = 0; begin < row_count; begin += kRowsAtOnce)
    attend_rows<Form>(args, rows, v_room, begin, std::min(row_count - begin, kRowsAtOnce));
}

}  // namespace
}  // namespace fettle
