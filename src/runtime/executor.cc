#include "runtime/executor.h"

#include <algorithm>

#include "base/check.h"
#include "runtime/executor_impl.h"

namespace fettle {

Result<std::unique_ptr<Executor>> Executor::create(Model model, const ExecutorOptions& options) {
  Graph caches = model.graph;  // of both graphs, those of the main one first
  if (model.draft)
    caches.caches.insert(caches.caches.end(), model.draft->caches.begin(), model.draft->caches.end());
  auto impl = std::make_unique<Impl>(std::move(model), options);
  TRY(KvCache cache, KvCache::create(caches, options.cache_tokens));
  impl->cache = std::make_shared<KvCache>(std::move(cache));
  TRY_STATUS(impl->prepare({.keeps_state = impl->model.draft.has_value()}));
  if (impl->model.draft) {
    ExecutorOptions same = options;
    same.pool = impl->team;
    impl->draft =
        std::make_unique<Impl>(Model{*impl->model.draft, impl->model.plan, impl->model.weights}, same);
    impl->draft->cache = impl->cache;
    TRY_STATUS(impl->draft->prepare(
        {.keeps_state = true, .first_cache = static_cast<int64_t>(impl->model.graph.caches.size())}));
  }
  return std::unique_ptr<Executor>(new Executor(std::move(impl)));
}

Status Executor::Impl::prepare(const FrameOptions& frames) {
  TRY(frame, make_frame(model.graph, options, frames));
  state = state_of(model.graph);
  parts = split_parts(model.graph);
  programs.resize(parts.size());
  scratch.resize(static_cast<size_t>(pool.size()));
  for (const Rope& rope : model.graph.ropes)
    rope_tables.emplace_back(static_cast<size_t>(options.max_tokens) * 2 * rope.inv_freq.size());
  observed.assign(model.graph.nodes.size(), false);
  for (size_t part = 0; !options.stream && part < parts.size(); ++part) TRY_STATUS(open(part));
  return {};
}

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executor::~Executor() = default;
const Graph& Executor::graph() const { return impl_->model.graph; }
int64_t Executor::max_tokens() const { return impl_->options.max_tokens; }
int64_t Executor::max_logit_rows() const { return impl_->options.max_logit_rows; }
KvCache& Executor::cache() { return *impl_->cache; }
ThreadPool& Executor::pool() { return impl_->pool; }
bool Executor::has_draft() const { return impl_->draft != nullptr; }
uint64_t Executor::activation_bytes() const {
  return impl_->frame.arena.size() + (impl_->draft ? impl_->draft->frame.arena.size() : 0);
}
uint64_t Executor::weight_bytes() const {
  std::map<std::string, uint64_t> all = impl_->weight_bytes;
  if (impl_->draft) all.insert(impl_->draft->weight_bytes.begin(), impl_->draft->weight_bytes.end());
  uint64_t sum = 0;
  for (const auto& [name, bytes] : all) sum += bytes;
  return sum;
}

void Executor::observe(std::vector<ValueId> values, Observer observer) {
  std::fill(impl_->observed.begin(), impl_->observed.end(), false);
  for (const ValueId id : values) impl_->observed[id] = true;
  impl_->observer = std::move(observer);
}

Status Executor::Impl::check(std::span<const RowsInput> inputs) const {
  int64_t tokens = 0, logit_rows = 0;
  for (const RowsInput& input : inputs) {
    tokens += static_cast<int64_t>(input.tokens.size());
    logit_rows += input.logits == Logits::kAll ? static_cast<int64_t>(input.tokens.size())
                                               : input.logits == Logits::kLast;
    for (const int32_t id : input.tokens)
      if (id < 0 || id >= model.graph.vocab)
        return bad_input("token id {} is outside the model's vocabulary of {}", id, model.graph.vocab);
    CHECK(!input.tokens.empty());
  }
  CHECK(tokens <= options.max_tokens, "{} tokens in a step of {}", tokens, options.max_tokens);
  CHECK(logit_rows <= options.max_logit_rows, "{} rows of logits in a step of {}", logit_rows,
        options.max_logit_rows);
  return {};
}

Status Executor::Impl::open(size_t part) {
  if (programs[part]) return {};
  TRY(programs[part], compile(model, parts[part], frame, *cache, options));
  weight_bytes.insert(programs[part]->weight_bytes.begin(), programs[part]->weight_bytes.end());
  const size_t floats = static_cast<size_t>(programs[part]->scratch_floats) + 16;
  for (std::vector<float>& s : scratch)
    if (s.size() < floats) s.resize(floats);
  return {};
}

void Executor::Impl::execute(size_t begin, size_t end, Run& run) {
  const auto show = [&](ValueId id) {
    const Value& value = frame.values[id];
    if (value.type.form == Form::kF32)
      return observer(id, value.row(0), run.rows(value.type), value.type.cols, value.ld);
    std::vector<float> numbers(static_cast<size_t>(run.rows(value.type) * value.type.cols));
    for (size_t i = 0; i < numbers.size(); ++i)
      if (value.type.form == Form::kRoutes)
        numbers[i] = static_cast<float>(reinterpret_cast<const Route*>(value.data)[i].expert);
      else if (value.type.form == Form::kSelection)
        numbers[i] = static_cast<float>(reinterpret_cast<const int32_t*>(value.data)[i]);
      else
        return;
    observer(id, numbers.data(), run.rows(value.type), value.type.cols, value.type.cols);
  };
  pool.run([&](int worker) {
    fill_rope_tables(model.graph.ropes, run, worker);
    for (size_t part = begin; part < end; ++part)
      for (const CompiledStep& compiled : programs[part]->steps) {
        compiled.step->run(run, worker);
        if (compiled.barrier || observer) run.pool.barrier(worker);
        if (!observer || !observed[compiled.produces]) continue;
        if (worker == 0) show(compiled.produces);
        run.pool.barrier(worker);
      }
  });
}

SequenceRows sequence_rows(const Sequence& sequence, int64_t row_begin, int64_t first_position,
                           int64_t count) {
  const int64_t begin = std::clamp<int64_t>(sequence.expand_begin - first_position, 0, count);
  const int64_t end = std::clamp<int64_t>(sequence.expand_end - first_position, begin, count);
  return {row_begin, count, first_position, sequence.tables, {begin, end}};
}

Result<std::span<const float>> Executor::Impl::run(std::span<const RowsInput> inputs, const float* states) {
  TRY_STATUS(check(inputs));
  for (const RowsInput& input : inputs)
    TRY_STATUS(cache->reserve(*input.sequence, input.first,
                              input.first + static_cast<int64_t>(input.tokens.size())));

  std::vector<int32_t> ids;
  std::vector<int64_t> positions, selected;
  std::vector<SequenceRows> sequences;
  for (const RowsInput& input : inputs) {
    const int64_t begin = static_cast<int64_t>(ids.size()), count = static_cast<int64_t>(input.tokens.size());
    sequences.push_back(sequence_rows(*input.sequence, begin, input.first, count));
    ids.insert(ids.end(), input.tokens.begin(), input.tokens.end());
    for (int64_t i = 0; i < count; ++i) {
      positions.push_back(input.first + i);
      if (input.logits == Logits::kAll || (input.logits == Logits::kLast && i + 1 == count))
        selected.push_back(begin + i);
    }
  }
  Run run{pool,
          pool.size(),
          static_cast<int64_t>(ids.size()),
          static_cast<int64_t>(selected.size()),
          ids,
          positions,
          selected,
          sequences,
          scratch,
          rope_tables,
          states};
  if (!options.stream) execute(0, parts.size(), run);
  for (size_t part = 0; options.stream && part < parts.size(); ++part) {
    TRY_STATUS(open(part));
    execute(part, part + 1, run);
    close(part);
  }
  const Value& logits = frame.values.back();
  return std::span<const float>(logits.row(0), static_cast<size_t>(run.selected * logits.type.cols));
}

Result<std::span<const float>> Executor::forward(std::span<const SequenceInput> inputs) {
  std::vector<RowsInput> rows;
  for (const SequenceInput& input : inputs)
    rows.push_back({input.sequence, input.sequence->length, input.tokens, input.logits});
  TRY(const std::span<const float> logits, impl_->run(rows, nullptr));
  for (const SequenceInput& input : inputs)
    input.sequence->length += static_cast<int64_t>(input.tokens.size());
  return logits;
}

Result<std::span<const float>> Executor::draft(std::span<const DraftInput> inputs) {
  CHECK(has_draft());
  std::vector<RowsInput> rows;
  std::vector<float> states;
  for (const DraftInput& input : inputs) {
    rows.push_back({input.sequence, input.first, input.tokens, input.logits});
    states.insert(states.end(), input.states,
                  input.states + static_cast<int64_t>(input.tokens.size()) * state_width());
  }
  return impl_->draft->run(rows, states.data());
}

int64_t Executor::state_width() const { return impl_->frame.values[impl_->state].type.cols; }
const float* Executor::state(int64_t row) const {
  CHECK(has_draft());
  return impl_->frame.values[impl_->state].row(row);
}
const float* Executor::draft_state(int64_t row) const {
  CHECK(has_draft());
  return impl_->draft->frame.values[impl_->draft->state].row(row);
}

void Executor::expect_prompt(Sequence& sequence, int64_t tokens) const {
  sequence.expect_prompt(sequence.length, tokens, impl_->model.plan.expand_grid);
}

Result<std::span<const float>> Executor::feed(Sequence& sequence, std::span<const int32_t> tokens,
                                              int64_t chunk, const LogitsSink& sink) {
  chunk = std::clamp<int64_t>(
      chunk, 1,
      sink ? std::min(impl_->options.max_tokens, impl_->options.max_logit_rows) : impl_->options.max_tokens);
  const int64_t count = static_cast<int64_t>(tokens.size());
  expect_prompt(sequence, count);
  std::span<const float> last;
  for (size_t at = 0; at < tokens.size();) {
    const size_t n = std::min(tokens.size() - at, static_cast<size_t>(chunk));
    const bool ends = at + n == tokens.size();
    const SequenceInput input{&sequence, tokens.subspan(at, n),
                              sink   ? Logits::kAll
                              : ends ? Logits::kLast
                                     : Logits::kNone};
    TRY(last, forward({&input, 1}));
    if (sink) sink(static_cast<int64_t>(at), last, static_cast<int64_t>(n));
    at += n;
  }
  return last;
}

}  // namespace fettle
