#include "fit/fit.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "fit/pack.h"
#include "fit/source_hash.h"
#include "fit/speculation.h"
#include "graph/text.h"
#include "quality/builtin_text.h"
#include "quality/report.h"
#include "tensor/safetensors_write.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

constexpr int64_t kKnownTokens = 16;  // of the known answer
constexpr int64_t kCalibrationWindows = 6, kCalibrationWindow = 128;

class FitJob {
 public:
  FitJob(const FitOptions& options, Checkpoint checkpoint, BuiltGraph built)
      : options_(options),
        checkpoint_(std::move(checkpoint)),
        built_(std::move(built)),
        pool_(options.threads) {}

  Result<FitResult> run() {
    TRY(text_files_, checkpoint_.text_files());
    TRY_STATUS(settle_chat_format(&text_files_));
    TRY(identity_, source_identity(checkpoint_));
    source_hash_.emplace(checkpoint_);
    for (const std::string& unused : built_.unused_tensors) note("unused tensor " + unused);
    warn_of_unexpected(built_, checkpoint_);
    TRY_STATUS(decide());
    TRY_STATUS(adapt());
    TRY_STATUS(pack());
    if (options_.verify) TRY_STATUS(verify());
    TRY_STATUS(publish(job_directory(), options_.out, options_.force));
    result_.path = options_.out;
    result_.plan = plan_;
    return std::move(result_);
  }

 private:
  void note(std::string text) {
    log_info("{}", text);
    result_.notes.push_back(std::move(text));
  }
  std::string job_directory() const { return options_.out + ".job"; }

  // The plan: read from a file, continued from the job, or made from measurements.
  Status decide() {
    if (!options_.plan_file.empty()) {
      TRY(const Json json, read_json_file(options_.plan_file));
      TRY(plan_, plan_from_json(json, options_.plan_file));
      if (plan_.simulate_rounding == options_.numerics.simulate_rounding) return {};
      TRY(built_, build_graph(checkpoint_, {.simulate_rounding = plan_.simulate_rounding}));
      return {};
    }
    const Numerics& numerics = options_.numerics;
    TRY(plan_.activations, settle_activations(checkpoint_, built_.graph, numerics.activations));
    plan_.simulate_rounding = numerics.simulate_rounding;
    std::string asked =
        fmt::format("{} {} {} {} {} {} {} {}", identity_, options_.target, objective_name(options_.objective),
                    budget_text(options_.budget), options_.scheme, options_.kv_type, plan_.activations,
                    plan_.simulate_rounding);
    for (const std::string& pass : options_.disabled_passes) asked += " -" + pass;
    const std::string request = sha256_hex(asked);
    const std::string decided = join_path(job_directory(), "decided.json");
    if (path_exists(decided)) {
      auto json = read_json_file(decided);
      if (json.ok() && json->value("request", std::string()) == request && json->contains("plan")) {
        TRY(plan_, plan_from_json((*json)["plan"], decided));
        note("going on with the decisions of an interrupted job");
        return {};
      }
    }
    TRY(const LocalTarget target,
        local_target(options_.threads, options_.isa, options_.cache_directory, false));
    plan_.target = options_.target;
    plan_.objective = objective_name(options_.objective);
    plan_.kv_type = options_.kv_type;
    plan_.expand_grid = choose_expand_grid(built_.graph);
    plan_.rates = target.rates;
    for (const MeasuredKernel& k : target.kernels)
      plan_.kernels.push_back({k.scheme, k.activation, k.kernel, 1, INT64_MAX, k.read_gbs, k.gops});
    TRY_STATUS(choose_schemes_for(target));
    TRY_STATUS(make_directories(job_directory()));
    return write_file_atomic(decided,
                             dump_json({{"request", request}, {"plan", plan_to_json(plan_)}}) + "\n");
  }

  Status choose_schemes_for(const LocalTarget& target) {
    if (!options_.scheme.empty()) {
      plan_.schemes = choose_uniform(built_.graph, options_.scheme);
      return {};
    }
    const auto groups = weight_groups(built_.graph);
    if (std::all_of(groups.begin(), groups.end(), [](const WeightGroup& g) { return g.carried_blocks; })) {
      note("every matrix is carried as the source coded it; --scheme changes that");
      return {};
    }
    TRY(const auto tokenizer, Tokenizer::load(text_files_));
    TRY(auto windows, make_windows(*tokenizer, std::string(calibration_text()),
                                   std::min(kCalibrationWindow, built_.graph.context)));
    std::vector<TokenWindow> chosen;
    for (int64_t i = 0; i < kCalibrationWindows && i < static_cast<int64_t>(windows.size()); ++i)
      chosen.push_back(windows[static_cast<size_t>(i) * windows.size() / kCalibrationWindows]);
    const CalibrationInput calibration{
        checkpoint_,    built_.graph,     chosen,       {"i4g32", "i4g32z", "i8c", "q8_0"},
        pass_options(), options_.threads, options_.isa, {options_.memory_limit, 0, 1, job_directory()}};
    TRY(Choice choice, choose_by_budget({calibration, target, options_.objective, options_.budget}));
    if (!choice.within_budget)
      return make_error(
          Code::kCheckFailed,
          "no mix of schemes meets the budget {} on calibration text; the best reached is kld {:.5f}, "
          "p99 {:.4f}, top-1 {:.4f}, perplexity {:.3f} against {:.3f}; raise the budget",
          budget_text(options_.budget), choice.reached.kld_mean.value, choice.reached.kld_p99,
          choice.reached.top1_agreement.value, choice.reached.perplexity_adapted,
          choice.reached.perplexity_source);
    plan_.schemes = std::move(choice.schemes);
    plan_.sensitivity = std::move(choice.sensitivity);
    return {};
  }

  PassOptions pass_options() const {
    PassOptions passes;
    passes.schemes = plan_.schemes;
    passes.kv_type = plan_.kv_type;
    passes.expand_grid = plan_.expand_grid;
    passes.small_float_inputs = activation_form(plan_.activations);
    passes.disabled.insert(options_.disabled_passes.begin(), options_.disabled_passes.end());
    return passes;
  }

  Status adapt() {
    if (built_.draft) add_draft_schemes(built_.graph, *built_.draft, &plan_.schemes);
    TRY(adapted_, adapt_graphs(built_.graph, built_.draft, pass_options(), &result_.notes));
    weights_ = all_weights(adapted_.graph, adapted_.draft);
    plan_.weights = lay_out(weights_);
    return {};
  }

  Status pack() {
    const std::string key = sha256_hex(identity_ + print_graph(adapted_.graph) +
                                       (adapted_.draft ? print_graph(*adapted_.draft) : ""));
    TRY(ArtifactWriter writer, ArtifactWriter::open(job_directory(), key));
    TRY_STATUS(pack_weights(weights_, checkpoint_, pool_, writer,
                            [this](double share) { source_hash_->follow(share); }));
    TRY_STATUS(try_out(writer));
    TRY(digest_, source_hash_->digest());
    TRY(result_.content_digest, writer.finish({adapted_.graph, adapted_.draft, plan_, text_files_}, facts()));
    return {};
  }

  Json facts() const {
    Certificate counts;
    describe_weights(adapted_.graph, adapted_.draft, &counts);
    const Graph& graph = adapted_.graph;
    return {{"name", model_name()},
            {"architecture", graph.architecture},
            {"target", plan_.target},
            {"source", base_name(checkpoint_.path())},
            {"source_digest", digest_},
            {"parameters", built_.graph.parameters()},
            {"draft_parameters", built_.draft ? draft_parameters(built_.graph, *built_.draft) : 0},
            {"vocab", graph.vocab},
            {"context", graph.context},
            {"kv_bytes_per_token", kv_bytes_per_token(graph)},
            {"carried", counts.carried},
            {"requantised", counts.requantised},
            {"tasks", {"chat", "completion"}}};
  }
  std::string model_name() const {
    std::string name = base_name(options_.out);
    if (name.ends_with(".fettle")) name.resize(name.size() - 7);
    return name;
  }

  // What the weights just written do: the known answer, and whether speculation pays. That is measured once,
  // by the job that makes the plan, and not where nothing is verified: then a plan holds no figures of its
  // own, and the same choices give the same bytes.
  Status try_out(const ArtifactWriter& writer) {
    const bool measures = options_.verify && plan_.speculations.empty();
    const int64_t step = measures ? 64 : kKnownTokens, tokens = measures ? 2048 : kKnownTokens;
    TRY(auto store, load_weights(job_directory(), writer.entries(), options_.threads, 0));
    TRY(auto executor,
        Executor::create({adapted_.graph, plan_, store, measures ? adapted_.draft : std::nullopt},
                         {.threads = options_.threads,
                          .isa = options_.isa,
                          .max_tokens = step,
                          .max_logit_rows = measures ? step : 1,
                          .cache_tokens = tokens}));
    TRY_STATUS(write_known_answer(*executor));
    if (!measures) return {};
    const auto tokenizer = Tokenizer::load(text_files_);
    return tokenizer.ok() ? plan_speculation(*executor, **tokenizer, &plan_, &result_.notes) : Status{};
  }

  // Logits of a fixed short input: what a server checks itself against.
  Status write_known_answer(Executor& executor) const {
    const int64_t vocab = adapted_.graph.vocab;
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < kKnownTokens; ++i) ids.push_back(static_cast<int32_t>((i * 7919 + 11) % vocab));
    Sequence sequence;
    TRY(const auto logits, executor.feed(sequence, ids, kKnownTokens));
    executor.cache().release(sequence);
    const std::vector<int64_t> wide(ids.begin(), ids.end());
    const TensorToWrite tensors[] = {{"ids", DType::kI64, {kKnownTokens}, wide.data()},
                                     {"logits", DType::kF32, {1, vocab}, logits.data()}};
    return write_safetensors(join_path(job_directory(), "known_answer.safetensors"), tensors);
  }

  Status verify() {
    CertifyOptions certify_options = options_.certify;
    certify_options.budget = options_.budget;
    TRY(const Certificate certificate, certify({.source = options_.model,
                                                .adapted = job_directory(),
                                                .threads = options_.threads,
                                                .isa = options_.isa,
                                                .memory_limit = options_.memory_limit,
                                                .spill_directory = job_directory(),
                                                .source_digest = digest_,
                                                .cache_directory = options_.source_cache},
                                               certify_options));
    TRY_STATUS(write_file_atomic(join_path(job_directory(), "certificate.json"),
                                 dump_json(certificate_to_json(certificate)) + "\n"));
    TRY_STATUS(write_file_atomic(join_path(job_directory(), "report.html"), render_report(certificate)));
    if (!certificate.passed) {
      std::string failed;
      for (const Verdict& v : certificate.verdicts)
        if (!v.passed) failed += fmt::format("{}{} ({})", failed.empty() ? "" : "; ", v.what, v.why);
      return make_error(Code::kCheckFailed,
                        "the certificate does not meet the budget {}: {}; what was reached is in {}",
                        budget_text(options_.budget), failed, join_path(job_directory(), "report.html"));
    }
    result_.certificate = certificate;
    return {};
  }

  const FitOptions& options_;
  Checkpoint checkpoint_;
  BuiltGraph built_;
  ThreadPool pool_;
  std::map<std::string, std::string> text_files_;
  std::string identity_, digest_;  // of the source
  Plan plan_;
  AdaptedGraphs adapted_;
  std::vector<Weight> weights_;  // of both graphs
  FitResult result_;
  std::optional<SourceHash> source_hash_;
};

}  // namespace

Result<FitResult> fit(const FitOptions& options) {
  if (options.target != "local")
    return unsupported("target '{}' is not known; known is: local", options.target);
  if (!options.force && path_exists(options.out))
    return make_error(Code::kUsage, "'{}' exists already; remove it, choose another -o, or give --force",
                      options.out);
  TRY(Checkpoint checkpoint, Checkpoint::open(options.model));
  TRY(BuiltGraph built, build_graph(checkpoint, {.simulate_rounding = options.numerics.simulate_rounding}));
  if (!checkpoint.has_weights())
    return bad_input("{}: holds a configuration but no weights; add the .safetensors files", options.model);
  return FitJob(options, std::move(checkpoint), std::move(built)).run();
}

}  // namespace fettle
