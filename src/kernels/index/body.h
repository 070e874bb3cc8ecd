// Scores written once over vec16.h and a form of the cache (kernels/attention/body.h says what that is); each
// ISA's .cc includes it. A tile of R heads of one token shares every loaded vector of keys; a head's own
// operations, and the order in which heads are added, are the same whatever R is.
#pragma once

namespace fettle {
namespace {

constexpr int kMostHeads = 6;
constexpr int kKeyVectors = static_cast<int>(kBlockTokens / kLanes);

struct Heads {
  const float* q;  // [head][q_stride], scaled, as the form keeps a row
  const float* w;
  int64_t q_stride;
};

// Adds R heads to the scores of one block of keys.
template <class Form, int R>
void add_heads(const float* k, int64_t k_words, const Heads& heads, float* scores) {
  constexpr int V = Form::kVectors;
  for (int first = 0; first < kKeyVectors; first += V, k += V * k_words * kLanes) {
    F32x16 dots[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) dots[r][j] = broadcast(0.0f);
    for (int64_t i = 0; i < k_words; ++i) {
      typename Form::Words words[V];
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) words[j] = Form::load(k + (j * k_words + i) * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < V; ++j)
          dots[r][j] = Form::dot(dots[r][j], words[j], heads.q + r * heads.q_stride + i * Form::kRowFloats);
    }
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) {
      float* place = scores + (first + j) * kLanes;
      F32x16 sum = load(place);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum = fma(broadcast(heads.w[r]), max(dots[r][j], broadcast(0.0f)), sum);
      store(place, sum);
    }
  }
}

template <class Form>
void score_block(const float* k, int64_t k_words, Heads heads, int64_t count, float* scores) {
  using AddHeads = void (*)(const float*, int64_t, const Heads&, float*);
  static constexpr AddHeads kAddHeads[kMostHeads] = {add_heads<Form, 1>, add_heads<Form, 2>,
                                                     add_heads<Form, 3>, add_heads<Form, 4>,
                                                     add_heads<Form, 5>, add_heads<Form, 6>};
  for (int j = 0; j < kKeyVectors; ++j) store(scores + j * kLanes, broadcast(0.0f));
  for (int64_t left = count; left > 0;) {
    const int64_t tiles = (left + kMostHeads - 1) / kMostHeads, size = (left + tiles - 1) / tiles;
    kAddHeads[size - 1](k, k_words, heads, scores);
    heads.q += size * heads.q_stride;
    heads.w += size;
    left -= size;
  }
}

template <class Form>
void score(const IndexArgs& args) {
  const int64_t dim = args.kv.k_dim, stride = index_q_floats(dim) / Form::kPerWord * Form::kRowFloats;
  const int64_t rows = args.heads * stride;
  float* q = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(args.scratch) + 63) / 64 * 64);
  const F32x16 scale = broadcast(args.scale), zero = broadcast(0.0f);
  for (int64_t t = 0; t < args.tokens; ++t)
    for (int64_t h = 0; h < args.heads; ++h) {
      const float* from = args.q + t * args.q_stride + h * dim;
      float* row = q + t * rows + h * stride;
      for (int64_t i = 0; i < dim; i += 2 * kLanes) {
        const int64_t left = dim - i;
        const F32x16 a = mul(load_part(from + i, left), scale);
        const F32x16 b = left > kLanes ? mul(load_part(from + i + kLanes, left - kLanes), scale) : zero;
        (void)Form::put(zero, a, b, row + i / Form::kPerWord * Form::kRowFloats);
      }
    }
  const int64_t k_words = BlockLayout(args.kv).k_words;
  for (int64_t b = args.block_begin; b < args.block_end; ++b) {
    const float* k = reinterpret_cast<const float*>(args.pool + args.table[b] * args.block_stride);
    for (int64_t t = 0; t < args.tokens; ++t)
      score_block<Form>(k, k_words, {q + t * rows, args.w + t * args.w_stride, stride}, args.heads,
                        args.scores + t * args.scores_stride + (b - args.block_begin) * kBlockTokens);
  }
}

}  // namespace
}  // namespace fettle
