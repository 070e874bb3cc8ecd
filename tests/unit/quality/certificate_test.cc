#include "quality/certificate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "golden.h"
#include "quality/wording.h"
#include "samples.h"

namespace fettle {
namespace {

std::string text_of(const Certificate& c) { return dump_json(certificate_to_json(c)) + "\n"; }

// The error of reading the JSON of `c` after `change`.
template <typename Change>
std::string error_after(const Certificate& c, Change change) {
  Json json = certificate_to_json(c);
  change(json);
  const auto read = certificate_from_json(json, "certificate.json");
  return read.ok() ? "" : read.error().message();
}

TEST(Budget, ParsesAndPrintsBack) {
  const auto budget = parse_budget("top1=0.97,kld=0.01,ppl=1.02");
  ASSERT_TRUE(budget.ok());
  EXPECT_EQ(budget->kld_mean, 0.01);
  EXPECT_EQ(budget->top1_min, 0.97);
  EXPECT_EQ(budget->ppl_ratio_max, 1.02);
  EXPECT_FALSE(budget->kld_p99);
  EXPECT_EQ(budget_text(*budget), "kld=0.01,top1=0.97,ppl=1.02");
  EXPECT_EQ(parse_budget("p99=1e-1")->kld_p99, 0.1);
}

TEST(Budget, ErrorsNameTheKeyAndTheKnownOnes) {
  const auto error = [](std::string_view text) {
    const auto budget = parse_budget(text);
    EXPECT_FALSE(budget.ok()) << text;
    if (budget.ok()) return std::string();
    EXPECT_EQ(budget.error().code(), Code::kUsage);
    return budget.error().message();
  };
  EXPECT_EQ(error("kdl=0.01"),
            "budget: unknown limit 'kdl'; known are kld, p99, top1, ppl, as in kld=0.01,top1=0.97");
  EXPECT_EQ(error("kld=abc"), "budget: 'kld' is 'abc'; expected a number from 0 up, such as 0.01");
  EXPECT_EQ(error("top1=97"), "budget: 'top1' is '97'; expected a share from 0 to 1, such as 0.97");
  EXPECT_EQ(error("kld=0.1,kld=0.2"), "budget: 'kld' is given twice; keep one");
  for (const auto* bad : {"", "kld", "kld=", "kld=0.1,", ",kld=0.1", "kld=nan", "kld=inf", "kld=-1",
                          "kld=0.1x", "kld= 1", "=1"}) {
    EXPECT_NE(error(bad), "") << bad;
  }
}

TEST(ApplyBudget, PassAndFail) {
  EXPECT_TRUE(passing_sample().passed);
  EXPECT_EQ(passing_sample().verdicts.size(), 11u);
  const Certificate failing = failing_sample();
  EXPECT_FALSE(failing.passed);
  EXPECT_FALSE(failing.verdicts[0].passed);
  EXPECT_EQ(failing.verdicts[0].measured, 0.0487);
  EXPECT_EQ(failing.verdicts[0].limit, 0.01);
}

TEST(ApplyBudget, EachLimitDecidesAlone) {
  Certificate c = passing_sample();
  const auto passes_with = [&](const char* budget) {
    c.budget = *parse_budget(budget);
    apply_budget(&c);
    return c.passed;
  };
  EXPECT_TRUE(passes_with("kld=0.00412"));  // a limit that is just met is met
  EXPECT_FALSE(passes_with("kld=0.00411"));
  EXPECT_FALSE(passes_with("p99=0.0388"));
  EXPECT_FALSE(passes_with("top1=0.98"));
  EXPECT_FALSE(passes_with("ppl=1.004"));
  c.generated->drift.kld_mean.value = 0.02;
  EXPECT_FALSE(passes_with("kld=0.01"));  // the generated part is judged too
}

TEST(ApplyBudget, ChecksAndSoundnessDecideWithoutABudget) {
  Certificate c = sparse_sample();
  EXPECT_TRUE(c.passed);
  EXPECT_EQ(certificate_outcome(c), "MEASURED");
  c.repetition = Check{false, "loops"};
  apply_budget(&c);
  EXPECT_FALSE(c.passed);
  for (const double broken : {double{INFINITY}, double{NAN}}) {
    c = sparse_sample();
    c.evaluation.drift.kld_max = broken;
    apply_budget(&c);
    EXPECT_FALSE(c.passed);
  }
  c = sparse_sample();
  c.evaluation.drift = DriftSummary{};
  apply_budget(&c);
  EXPECT_FALSE(c.passed);
}

TEST(ApplyBudget, NotMeasuredNeverPasses) {
  Certificate c = passing_sample();
  c.evaluation.drift.perplexity_source = c.evaluation.drift.perplexity_adapted = NAN;
  c.budget = *parse_budget("ppl=1.02");
  apply_budget(&c);
  EXPECT_FALSE(c.passed);
  EXPECT_EQ(c.verdicts[0].why, "not measured, allowed at most 1.02");
}

TEST(DriftPart, BucketsAndQuantiles) {
  std::vector<std::vector<PositionScore>> windows(3, std::vector<PositionScore>(100));
  windows[2].resize(40);  // the last window is shorter
  for (auto& window : windows) {
    for (size_t i = 0; i < window.size(); ++i) window[i].kld = i < 10 ? 1.0 : 0.25;
  }
  const DriftPart part = drift_part(windows, 10);
  EXPECT_EQ(part.position_bucket, 10);
  ASSERT_EQ(part.kld_by_position.size(), 10u);
  EXPECT_DOUBLE_EQ(part.kld_by_position[0], 1.0);
  EXPECT_DOUBLE_EQ(part.kld_by_position[9], 0.25);
  EXPECT_EQ(part.kld_quantiles.back().q, 1);
  EXPECT_EQ(part.kld_quantiles.back().kld, 1);
  EXPECT_EQ(part.drift.positions, 240);
  EXPECT_TRUE(drift_part({}).kld_by_position.empty());
  const std::vector<std::vector<PositionScore>> short_windows(1, std::vector<PositionScore>(3));
  EXPECT_EQ(drift_part(short_windows, 32).kld_by_position.size(), 3u);
}

TEST(CertificateTable, Golden) {
  expect_golden("table_pass.txt", certificate_table(passing_sample()));
  expect_golden("table_fail.txt", certificate_table(failing_sample()));
  expect_golden("table_sparse.txt", certificate_table(sparse_sample()));
  expect_golden("table_hostile.txt", certificate_table(hostile_sample()));
}

TEST(CertificateTable, HostileNamesCannotSteerATerminal) {
  for (const char c : certificate_table(hostile_sample())) {
    EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  }
}

TEST(CertificateJson, Golden) {
  expect_golden("certificate_pass.json", text_of(passing_sample()));
  expect_golden("certificate_sparse.json", text_of(sparse_sample()));
}

TEST(CertificateJson, RoundTrip) {
  for (const Certificate& c : {passing_sample(), failing_sample(), sparse_sample(), hostile_sample()}) {
    const std::string text = text_of(c);
    const auto json = parse_json(text, "text");
    ASSERT_TRUE(json.ok());
    const auto read = certificate_from_json(*json, "certificate.json");
    ASSERT_TRUE(read.ok()) << read.error().message();
    EXPECT_EQ(text_of(*read), text);
  }
}

TEST(CertificateJson, InfinityComesBackAsInfinityAndStillFails) {
  Certificate c = *certificate_from_json(certificate_to_json(hostile_sample()), "x");
  EXPECT_EQ(c.evaluation.drift.kld_mean.value, double{INFINITY});
  EXPECT_EQ(c.evaluation.drift.kld_mean.high, double{INFINITY});
  EXPECT_EQ(c.evaluation.drift.perplexity_adapted, double{INFINITY});
  EXPECT_EQ(c.kld_by_layer[7].relative_error, double{INFINITY});
  apply_budget(&c);
  EXPECT_FALSE(c.passed);
}

TEST(CertificateJson, EveryRequiredFieldIsMissedByName) {
  const std::vector<std::string> required{
      "schema_version", "passed",     "verdicts",       "model",     "target", "created", "kld",
      "top1_agreement", "perplexity", "positions",      "windows",   "tasks",  "memory",  "carried",
      "requantised",    "schemes",    "content_digest", "evaluation"};
  for (const std::string& field : required) {
    const std::string error = error_after(passing_sample(), [&](Json& j) { j.erase(field); });
    EXPECT_NE(error.find("certificate.json: field '" + field + "'"), std::string::npos)
        << field << ": " << error;
  }
  EXPECT_NE(error_after(passing_sample(), [](Json& j) { j["kld"].erase("p99"); })
                .find("certificate.json: kld: field 'p99'"),
            std::string::npos);
  EXPECT_NE(error_after(passing_sample(), [](Json& j) { j["tasks"][1].erase("count"); })
                .find("tasks[1]: field 'count'"),
            std::string::npos);
}

TEST(CertificateJson, OptionalAndUnknownFields) {
  for (const char* field : {"budget", "parts", "speed", "greedy_prefix", "checks", "profile", "made_by"}) {
    EXPECT_EQ(error_after(passing_sample(), [&](Json& j) { j.erase(field); }), "") << field;
  }
  EXPECT_EQ(error_after(passing_sample(), [](Json& j) { j["from_the_future"] = {{"a", 1}}; }), "");
}

TEST(CertificateJson, RefusesWhatCannotBe) {
  const auto error = [](auto change) { return error_after(passing_sample(), change); };
  EXPECT_NE(
      error([](Json& j) { j["schema_version"] = 2; }).find("'schema_version' is 2; this fettle reads 1"),
      std::string::npos);
  EXPECT_NE(
      error([](Json& j) { j["verdicts"][0]["passed"] = false; }).find("'passed' is true, but the verdict"),
      std::string::npos);
  EXPECT_NE(error([](Json& j) { j["kld"]["mean"] = 0.001; }).find("parts.evaluation has"), std::string::npos);
  EXPECT_NE(error([](Json& j) { j["top1_agreement"] = 1.5; }).find("from 0 to 1"), std::string::npos);
  EXPECT_NE(error([](Json& j) { j["kld"]["max"] = -1; }), "");
  EXPECT_NE(error([](Json& j) { j["carried"] = -3; }), "");
  EXPECT_NE(error([](Json& j) { j["positions"] = "many"; }), "");
  EXPECT_NE(error([](Json& j) { j["tasks"] = 7; }), "");
  EXPECT_NE(error([](Json& j) { j["schemes"] = {1, 2}; }), "");
  EXPECT_NE(error([](Json& j) { j["parts"]["evaluation"]["kld_by_position"]["mean"] = {"x"}; }), "");
  EXPECT_NE(error([](Json& j) { j["memory"]["weights_bytes"] = 1e300; }), "");
  EXPECT_NE(error([](Json& j) { j = Json::array(); }), "");
}

TEST(Wording, Figures) {
  EXPECT_EQ(wording::figure(0.004123), "0.00412");
  EXPECT_EQ(wording::figure(0.01), "0.0100");
  EXPECT_EQ(wording::figure(12.34), "12.3");
  EXPECT_EQ(wording::figure(99.97), "100");
  EXPECT_EQ(wording::figure(413.2), "413");
  EXPECT_EQ(wording::figure(12345.6), "12,346");
  EXPECT_EQ(wording::figure(3.21e-5), "3.2e-05");
  EXPECT_EQ(wording::figure(0), "0");
  EXPECT_EQ(wording::figure(NAN), "–");
  EXPECT_EQ(wording::figure(INFINITY), "infinite");
  EXPECT_EQ(wording::percent(1.0), "100.00 %");
  EXPECT_EQ(wording::percent(0.99999), "99.99 %");  // not all of them
  EXPECT_EQ(wording::whole(1234567), "1,234,567");
  EXPECT_EQ(wording::whole(-1234), "-1,234");
  EXPECT_EQ(wording::magnitude(7615616512), "7.62 B");
  EXPECT_EQ(wording::magnitude(999), "999");
}

TEST(Wording, ForeignText) {
  EXPECT_EQ(wording::printable("a\x1b[2Jb\n"), "a\xEF\xBF\xBD[2Jb\xEF\xBF\xBD");
  EXPECT_EQ(wording::printable("\xff\xc0\xaf\xed\xa0\x80"),
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(wording::printable("\xE2\x80\xAE|\xE6\xB7\xB1"), "\xEF\xBF\xBD|\xE6\xB7\xB1");
  EXPECT_EQ(wording::printable("\xE6\xB7"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(wording::display_width("深圳 x"), 6);
  EXPECT_EQ(wording::shorten("abcdefghij", 10), "abcdefghij");
  EXPECT_EQ(wording::shorten("abcdefghijk", 10), "abcde…hijk");
  EXPECT_EQ(wording::display_width(wording::shorten("深圳深圳深圳深圳", 9)), 9);
}

}  // namespace
}  // namespace fettle
