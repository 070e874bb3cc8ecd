#include "samples.h"

#include <cmath>

namespace fettle {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string digest(char c) { return std::string("sha256:") + std::string(64, c); }

// Quantiles and positions with the shape that real ones have: a long right tail, the first positions the
// worst.
DriftPart part(DriftSummary drift) {
  DriftPart out;
  out.drift = drift;
  const double median = drift.kld_median, p99 = drift.kld_p99;
  out.kld_quantiles = {{0.1, median / 30},
                       {0.25, median / 5},
                       {0.5, median},
                       {0.75, median * 3.1},
                       {0.9, (median + p99) / 4},
                       {0.99, p99},
                       {0.999, std::sqrt(p99 * drift.kld_max)},
                       {1, drift.kld_max}};
  out.position_bucket = 16;
  for (int i = 0; i < 32; ++i) {
    const double wave = 1 + 0.12 * std::sin(i * 2.3) + 0.07 * std::cos(i * 0.9);
    out.kld_by_position.push_back(drift.kld_mean.value * (0.9 + 1.6 * std::exp(-i / 2.0)) * wave);
  }
  return out;
}

void add_layers(Certificate* c, int layers, double last) {
  for (int i = 0; i < layers; ++i) {
    const double share = (i + 1.0) / layers;
    const double bump = i == layers / 5 ? 1.6 : 1.0;
    c->kld_by_layer.push_back(
        {i, last * (0.15 + 0.85 * share * share) * bump * (1 + 0.08 * std::sin(i * 1.7))});
  }
}

}  // namespace

Certificate passing_sample() {
  Certificate c;
  c.model = "Qwen2.5-0.5B-Instruct";
  c.source = "models/Qwen2.5-0.5B-Instruct";
  c.architecture = "Qwen2ForCausalLM";
  c.parameters = 494032768;
  c.target = "x86-vnni";
  c.created = "2026-05-04T09:30:00Z";
  c.made_by = "fettle 0.1.0";
  c.evaluation = part({12288,
                       24,
                       {0.00412, 0.00381, 0.00447},
                       0.00152,
                       0.0389,
                       0.412,
                       {0.9787, 0.9761, 0.9812},
                       12.341,
                       12.402});
  c.generated = part({8192,
                      16,
                      {0.00187, 0.00168, 0.00211},
                      0.00031,
                      0.0251,
                      0.268,
                      {0.9902, 0.9881, 0.9921},
                      1.872,
                      1.876});
  c.greedy_prefix = {187.4, 256};
  c.tasks = {task_score("grade-school arithmetic", 200, 74, 72),
             task_score("reading comprehension", 150, 118, 119), task_score("format following", 80, 80, 80)};
  c.template_round_trip = {true, "14 conversations and 6 tool calls rendered, parsed and compared"};
  c.repetition = {true, "0 of 32 answers end in a loop, as with the source"};
  c.language_mix = {true, "0 of 32 answers change their script midway"};
  c.speed = {{412.7, 405.1, 420.3}, {38.2, 37.6, 38.9}, 8, true, "AMD EPYC, 8 cores, AVX-512 VNNI"};
  c.memory = {531021824, 12288, 702545920};
  c.carried = 121;
  c.requantised = 169;
  c.schemes = {{"i8c", 24, 24385536, 24502272},
               {"i4g32", 144, 333463552, 187573248},
               {"bf16", 1, 136134656, 272269312},
               {"f32", 121, 49024, 196096}};
  add_layers(&c, 24, 0.062);
  c.speed_by_scheme = {{"i8c", 61.2}, {"i4g32", 54.8}, {"bf16", 66.0}};
  c.content_digest = digest('3');
  c.source_digest = digest('a');
  c.evaluation_sha256 = std::string(64, '7');
  c.budget = {0.01, 0.1, 0.97, 1.02};
  apply_budget(&c);
  return c;
}

Certificate failing_sample() {
  Certificate c;
  c.model = "DeepSeek-R1-Distill-Llama-70B";
  c.source = "/models/deepseek-ai/DeepSeek-R1-Distill-Llama-70B";
  c.architecture = "LlamaForCausalLM";
  c.parameters = 70553706496;
  c.target = "ascend-910b";
  c.created = "2026-05-04T21:12:45Z";
  c.made_by = "fettle 0.1.0";
  c.evaluation = part(
      {16384, 32, {0.0487, 0.0441, 0.0539}, 0.0121, 0.512, 6.83, {0.9312, 0.9268, 0.9355}, 6.214, 6.471});
  c.generated = part(
      {16384, 32, {0.0096, 0.0083, 0.0113}, 0.0009, 0.161, 3.12, {0.9782, 0.9748, 0.9815}, 1.611, 1.634});
  c.greedy_prefix = {71.9, 512};
  c.router_overlap = 0.9631;
  c.tasks = {task_score("competition mathematics", 30, 21, 17),
             task_score("graduate science questions", 198, 129, 118),
             task_score("code with tests", 164, 121, 109)};
  c.template_round_trip = {true, "14 conversations and 6 tool calls rendered, parsed and compared"};
  c.repetition = {false, "3 of 32 answers end in a loop; 0 with the source"};
  c.language_mix = {true, "1 of 32 answers changes its script midway, 1 with the source"};
  c.speed = {{5120, 4350, 5890}, {31.4, 26.0, 36.9}, 0, false, "8 x Ascend 910B2"};
  c.memory = {39821000704, 327680, std::nullopt};
  c.carried = 161;
  c.requantised = 562;
  c.schemes = {{"i4g32z", 480, 67108864000, 39845888000},
               {"i8c", 80, 1342177280, 1342500000},
               {"bf16", 2, 2101346304, 4202692608},
               {"f32", 161, 1318912, 5275648}};
  add_layers(&c, 80, 0.31);
  c.content_digest = digest('c');
  c.source_digest = digest('5');
  c.parent_digest = digest('e');
  c.evaluation_sha256 = std::string(64, '7');
  c.budget = {0.01, std::nullopt, 0.97, 1.02};
  apply_budget(&c);
  return c;
}

Certificate sparse_sample() {
  Certificate c;
  c.model = "tiny-distill";
  c.architecture = "LlamaForCausalLM";
  c.parameters = 1048576;
  c.target = "local";
  c.created = "2026-05-04T09:30:00Z";
  c.evaluation.drift = {300, 1, {2.1e-7, NAN, NAN}, 9.3e-8, 1.1e-6, 4.4e-6, {1, NAN, NAN}, 41.2, 41.2};
  c.memory = {2097152, 512, std::nullopt};
  c.requantised = 31;
  c.content_digest = digest('1');
  c.evaluation_sha256 = std::string(64, '2');
  apply_budget(&c);
  return c;
}

Certificate hostile_sample() {
  Certificate c = failing_sample();
  c.model = "<script>alert('x')</script>\x1b[2J\"&amp;-" + std::string(120, 'w');
  c.source = "https://example.org/<img src=x onerror=alert(1)>";
  c.architecture =
      "\xE2\x80\xAE"
      "evil\xff\xc0\xaf";
  c.target = "深圳 ascend";
  c.tasks[0].name = std::string(90, 'n') + "</td></table>";
  c.schemes[0].scheme = "]]><svg onload=alert(1)>";
  c.template_round_trip = {false, "line one\nline two\r\x07 {}{0} %s"};
  c.evaluation.drift.kld_mean = {kInfinity, 0.3, kInfinity};
  c.evaluation.drift.kld_max = kInfinity;
  c.evaluation.drift.perplexity_adapted = kInfinity;
  c.evaluation.kld_by_position[3] = kInfinity;
  c.evaluation.kld_quantiles.back().kld = kInfinity;
  c.kld_by_layer[7].relative_error = kInfinity;
  c.content_digest = "'><b>";
  apply_budget(&c);
  return c;
}

}  // namespace fettle
