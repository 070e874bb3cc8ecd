#include "quality/evaluate.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/file.h"
#include "base/progress.h"

namespace fettle {

namespace {

// The residual stream after each layer: the last value that belongs to the layer.
std::vector<ValueId> layer_outputs(const Graph& graph) {
  std::vector<ValueId> out(static_cast<size_t>(graph.layers), -1);
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (graph.nodes[i].layer >= 0) out[static_cast<size_t>(graph.nodes[i].layer)] = static_cast<ValueId>(i);
  return out;
}

std::vector<ValueId> routes_of(const Graph& graph) {
  std::vector<ValueId> out;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (graph.nodes[i].op == Op::kRoute) out.push_back(static_cast<ValueId>(i));
  return out;
}

// Watches both models in lockstep: remembers the source's hidden states and routes of one step, computed or
// replayed, then adds up how far the adapted model's are from them.
class Drift {
 public:
  Drift(Executor& source, Executor& adapted, SourceTrace& trace)
      : source_(source), adapted_(adapted), trace_(trace) {
    pair_up(layer_outputs(source.graph()), layer_outputs(adapted.graph()), false);
    pair_up(routes_of(source.graph()), routes_of(adapted.graph()), true);
    observe(source_, in_source_, [this](Watched& w, const float* x, int64_t rows, int64_t cols, int64_t ld) {
      if (!watching_) return;
      w.state.resize(static_cast<size_t>(rows * cols));
      for (int64_t r = 0; r < rows; ++r) std::copy_n(x + r * ld, cols, w.state.data() + r * cols);
      trace_.record(w.state.data(), w.state.size());
    });
    observe(adapted_, in_adapted_,
            [this](Watched& w, const float* x, int64_t rows, int64_t cols, int64_t ld) {
              if (!watching_ || static_cast<int64_t>(w.state.size()) != rows * w.cols || cols < w.cols)
                return;
              for (int64_t r = 0; r < rows; ++r) w.add(w.state.data() + r * w.cols, x + r * ld, cols);
            });
  }
  ~Drift() {
    source_.observe({}, nullptr);
    adapted_.observe({}, nullptr);
  }
  Drift(const Drift&) = delete;
  Drift& operator=(const Drift&) = delete;

  void watch(bool on) { watching_ = on; }

  // In place of the source's run of a layer.
  Status replay(int64_t layer, int64_t rows) {
    const std::vector<Node>& nodes = source_.graph().nodes;
    for (const auto& [id, watched] : in_source_) {
      const Node& node = nodes[static_cast<size_t>(id)];
      if (!watching_ || node.layer != layer) continue;
      const auto count = static_cast<uint64_t>(rows * node.type.cols);
      TRY(const float* state, trace_.replay(count));
      watched->state.assign(state, state + count);
    }
    return {};
  }

  void finish(Comparison* out) const {
    double again = 0, chosen = 0;
    for (const auto& w : watched_) {
      if (w->routes)
        again += w->difference, chosen += w->norm;
      else
        out->by_layer.push_back({static_cast<int64_t>(out->by_layer.size()),
                                 w->norm > 0 ? std::sqrt(w->difference / w->norm) : 0});
    }
    if (chosen > 0) out->router_overlap = again / chosen;
  }

 private:
  // A hidden state: squares of differences and of the source. Routes: experts chosen again, experts chosen;
  // the adapted model may have more, which it was not left to choose.
  struct Watched {
    bool routes;
    int64_t cols;  // of the source
    std::vector<float> state;
    double difference = 0, norm = 0;

    void add(const float* expected, const float* found, int64_t found_cols) {
      for (int64_t c = 0; c < cols; ++c) {
        const double s = expected[c], d = found[c] - s;
        const float* end = found + found_cols;
        difference += routes ? static_cast<double>(std::find(found, end, expected[c]) != end) : d * d;
        norm += routes ? 1 : s * s;
      }
    }
  };
  using ByValue = std::map<ValueId, Watched*>;

  void pair_up(const std::vector<ValueId>& source, const std::vector<ValueId>& adapted, bool routes) {
    for (size_t i = 0; i < std::min(source.size(), adapted.size()); ++i) {
      const int64_t cols = source_.graph().nodes[static_cast<size_t>(source[i])].type.cols;
      watched_.push_back(std::make_unique<Watched>(Watched{routes, cols, {}, 0, 0}));
      in_source_[source[i]] = in_adapted_[adapted[i]] = watched_.back().get();
    }
  }
  template <typename F>
  static void observe(Executor& executor, const ByValue& values, F f) {
    std::vector<ValueId> ids;
    for (const auto& [id, watched] : values) ids.push_back(id);
    executor.observe(ids, [&values, f](ValueId id, const float* x, int64_t rows, int64_t cols, int64_t ld) {
      f(*values.at(id), x, rows, cols, ld);
    });
  }

  Executor &source_, &adapted_;
  SourceTrace& trace_;
  bool watching_ = false;
  std::vector<std::unique_ptr<Watched>> watched_;
  ByValue in_source_, in_adapted_;
};

// Frees a sequence's blocks however the function ends.
class HeldSequence {
 public:
  explicit HeldSequence(Executor& executor) : executor_(executor) {}
  ~HeldSequence() { executor_.cache().release(sequence); }
  Sequence sequence;

 private:
  Executor& executor_;
};

constexpr int64_t kChunk = 64;

// Is window `i` of `count` one of `wanted` spread evenly?
bool is_spread(size_t i, size_t count, size_t wanted) {
  return wanted >= count || i * wanted / count != (i + 1) * wanted / count;
}

// The stream before the last part: from the trace, or into it.
Status pass_on(SourceTrace& trace, float* stream, int64_t count) {
  if (!trace.replays()) {
    trace.record(stream, static_cast<uint64_t>(count));
    return {};
  }
  TRY(const float* kept, trace.replay(static_cast<uint64_t>(count)));
  std::copy_n(kept, count, stream);
  return {};
}

std::string trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

}  // namespace

Result<std::vector<TokenWindow>> make_windows(const Tokenizer& tokenizer, const std::string& text,
                                              int64_t size) {
  TRY(const std::vector<int32_t> ids, tokenizer.encode(text, false));
  std::vector<TokenWindow> windows;
  for (size_t at = 0; at < ids.size(); at += static_cast<size_t>(size))
    windows.emplace_back(
        ids.begin() + static_cast<int64_t>(at),
        ids.begin() + static_cast<int64_t>(std::min(ids.size(), at + static_cast<size_t>(size))));
  if (windows.empty()) return bad_input("the evaluation text holds no tokens");
  return windows;
}

void score_chunk(ThreadPool& pool, const Chunk& chunk, const TokenWindow& window, const LogitPair& logits,
                 int64_t first_scored, std::vector<PositionScore>* scores) {
  pool.for_each(chunk.count, [&](int64_t i) {
    const int64_t position = chunk.first + i;
    if (position < first_scored) return;
    const size_t next = static_cast<size_t>(position) + 1;
    const auto row = [&](std::span<const float> all) {
      return all.subspan(static_cast<size_t>(i * logits.vocab), static_cast<size_t>(logits.vocab));
    };
    (*scores)[static_cast<size_t>(position - first_scored)] =
        score_position(row(logits.expected), row(logits.found), next < window.size() ? window[next] : -1);
  });
}

Result<Comparison> compare(Executor& source, Executor& adapted, std::span<const TokenWindow> windows,
                           const CompareOptions& options) {
  const int64_t vocab = source.graph().vocab;
  if (vocab != adapted.graph().vocab)
    return bad_input("the vocabularies differ: {} and {}; these models cannot be compared token by token",
                     vocab, adapted.graph().vocab);
  TRY(Sweep of_source, Sweep::create(source, windows));
  TRY(Sweep of_adapted, Sweep::create(adapted, windows));
  TRY(const ResidualStream in_source, ResidualStream::create(of_source, options.spill_directory));
  TRY(const ResidualStream in_adapted, ResidualStream::create(of_adapted, options.spill_directory));
  const std::vector<Chunk>& chunks = of_source.chunks();
  if (of_source.parts() != of_adapted.parts())
    return bad_input("the models have {} and {} layers; they cannot be compared layer by layer",
                     source.graph().layers, adapted.graph().layers);
  CHECK(chunks.size() == of_adapted.chunks().size());

  Comparison comparison;
  for (const TokenWindow& window : windows)
    comparison.scores.emplace_back(static_cast<size_t>(
        std::max<int64_t>(0, static_cast<int64_t>(window.size()) - options.first_scored)));
  Progress progress(options.label, chunks.size() * of_source.parts());
  SourceTrace none;
  SourceTrace& trace = options.trace ? *options.trace : none;
  Drift drift(source, adapted, trace);
  for (size_t part = 0; part < of_source.parts(); ++part) {
    const bool last = part + 1 == of_source.parts(), replays = trace.replays() && !last;
    if (!replays) TRY_STATUS(of_source.open(part));
    TRY_STATUS(of_adapted.open(part));
    for (const Chunk& chunk : chunks) {
      drift.watch(is_spread(chunk.sequence, windows.size(), options.layer_windows));
      if (last) TRY_STATUS(pass_on(trace, in_source.at(chunk), chunk.count * of_source.width()));
      if (replays) TRY_STATUS(drift.replay(of_source.layer(part), chunk.count));
      const auto expected = replays ? std::span<const float>() : of_source.run(chunk, in_source.at(chunk));
      const auto found = of_adapted.run(chunk, in_adapted.at(chunk));
      if (expected.empty()) continue;
      score_chunk(source.pool(), chunk, windows[chunk.sequence], {expected, found, vocab},
                  options.first_scored, &comparison.scores[chunk.sequence]);
    }
    progress.add(chunks.size());
  }
  drift.finish(&comparison);
  trace.finish();
  return comparison;
}

Result<std::vector<TokenWindow>> continue_greedily(Executor& executor, std::span<const TokenWindow> prompts,
                                                   int64_t new_tokens, std::span<const int32_t> end_tokens,
                                                   const std::string& label) {
  const int64_t vocab = executor.graph().vocab;
  std::vector<TokenWindow> out(prompts.begin(), prompts.end());
  std::vector<std::unique_ptr<HeldSequence>> held;
  std::vector<bool> ended(prompts.size(), false);
  const auto draw = [&](size_t i, const float* logits) {
    const int32_t id = static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
    if (std::find(end_tokens.begin(), end_tokens.end(), id) != end_tokens.end())
      ended[i] = true;
    else
      out[i].push_back(id);
  };
  Progress progress(label, static_cast<uint64_t>(new_tokens) * prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    held.push_back(std::make_unique<HeldSequence>(executor));
    TRY(const auto logits, executor.feed(held[i]->sequence, prompts[i], kChunk));
    draw(i, logits.data());
    progress.add(1);
  }
  for (int64_t step = 1; step < new_tokens; ++step) {
    std::vector<SequenceInput> batch;
    std::vector<size_t> members;
    for (size_t i = 0; i < prompts.size(); ++i)
      if (!ended[i]) {
        batch.push_back({&held[i]->sequence, {&out[i].back(), 1}, Logits::kLast});
        members.push_back(i);
      }
    if (batch.empty()) break;
    TRY(const auto logits, executor.forward(batch));
    for (size_t b = 0; b < members.size(); ++b)
      draw(members[b], logits.data() + static_cast<int64_t>(b) * vocab);
    progress.add(members.size());
  }
  return out;
}

Certificate::GreedyPrefix greedy_prefix(std::span<const TokenWindow> source,
                                        std::span<const TokenWindow> adapted, int64_t of) {
  double equal = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    const auto [a, b] =
        std::mismatch(source[i].begin(), source[i].end(), adapted[i].begin(), adapted[i].end());
    (void)b;
    equal += static_cast<double>(a - source[i].begin());
  }
  return {source.empty() ? 0 : equal / static_cast<double>(source.size()), of};
}

Result<std::vector<TaskItem>> read_tasks(const std::string& path) {
  TRY(const std::string text, read_file(path));
  std::vector<TaskItem> items;
  int line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view content = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++line;
    if (trimmed(content).empty()) continue;
    const std::string where = fmt::format("{}: line {}", path, line);
    TRY(const Json json, parse_json(content, where));
    const JsonReader in(json, where);
    TaskItem item;
    TRY(item.task, in.string("task"));
    TRY(item.prompt, in.string("prompt"));
    TRY(item.answer, in.string("answer"));
    items.push_back(std::move(item));
  }
  if (items.empty()) return bad_input("{}: holds no tasks", path);
  return items;
}

Result<TaskMarks> answer_tasks(Executor& executor, const Tokenizer& tokenizer, const ChatFormat& chat,
                               std::span<const TaskItem> items, int64_t max_tokens,
                               const std::string& label) {
  constexpr size_t kBatch = kTasksAtOnce;
  TaskMarks marks;
  const auto ends = tokenizer.end_tokens();
  Progress progress(label, items.size());
  for (size_t at = 0; at < items.size(); at += kBatch) {
    const auto batch = items.subspan(at, std::min(kBatch, items.size() - at));
    std::vector<TokenWindow> prompts;
    for (const TaskItem& item : batch) {
      TRY(const std::string prompt,
          chat.render({{"messages", {{{"role", "user"}, {"content", item.prompt}}}}}, {}));
      TRY(prompts.emplace_back(), tokenizer.encode(prompt, false));
    }
    TRY(const auto replies, continue_greedily(executor, prompts, max_tokens, ends, ""));
    for (size_t i = 0; i < batch.size(); ++i) {
      const std::vector<int32_t> reply(replies[i].begin() + static_cast<int64_t>(prompts[i].size()),
                                       replies[i].end());
      TRY(const std::string text, tokenizer.decode(reply, true));
      const size_t end = text.rfind("</think>");
      const std::string answer =
          trimmed(end == std::string::npos ? text : std::string_view(text).substr(end + 8));
      auto& [right, asked] = marks.right_of[batch[i].task];
      right += answer == trimmed(batch[i].answer);
      ++asked;
    }
    progress.add(batch.size());
  }
  return marks;
}

}  // namespace fettle
