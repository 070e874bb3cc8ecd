#include "quality/report.h"

#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <set>

#include "quality/html.h"
#include "quality/plots.h"
#include "samples.h"

namespace fettle {
namespace {

// Reads HTML as strictly as XML: every tag closed in order, attributes quoted and not repeated, ids unique,
// nothing but known entities after '&', no stray '<' or '>'. Collects what the tests ask about.
class StrictPage {
 public:
  explicit StrictPage(std::string_view text) : text_(text) {
    if (!take("<!doctype html>\n")) fail("no doctype");
    while (at_ < text_.size() && error.empty()) step();
    if (error.empty() && !open_.empty()) fail("never closed: " + open_.back());
    for (const std::string& id : references_) {
      if (error.empty() && !ids_.count(id)) fail("no element has the id " + id);
    }
  }

  std::string error;
  std::set<std::string> elements, attributes;
  std::string words;  // all text between tags

 private:
  void fail(const std::string& why) { error = why + " near: " + std::string(text_.substr(at_, 80)); }
  bool take(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }
  std::string name() {
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-'))
      ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  void step() {
    if (take("</")) return close();
    if (take("<")) return open();
    if (text_[at_] == '>') return fail("stray >");
    if (text_[at_] == '&') return entity();
    words += text_[at_++];
  }
  void close() {
    const std::string tag = name();
    if (!take(">")) return fail("bad end tag");
    if (open_.empty() || open_.back() != tag) return fail("</" + tag + "> closes nothing");
    open_.pop_back();
  }
  void entity() {
    for (const auto* known : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&#160;"}) {
      if (take(known)) return;
    }
    fail("unknown entity");
  }
  void open() {
    const std::string tag = name();
    if (tag.empty()) return fail("stray <");
    elements.insert(tag);
    std::set<std::string> seen;
    while (take(" ")) {
      if (!attribute(&seen)) return;
    }
    if (take("/>")) return;
    if (!take(">")) return fail("bad tag " + tag);
    open_.push_back(tag);
    if (tag == "style") {
      const size_t end = text_.find("</style>", at_);
      if (end == std::string_view::npos) return fail("style never closed");
      at_ = end;
    }
  }
  bool attribute(std::set<std::string>* seen) {
    const std::string key = name();
    if (key.empty() || !take("=\"")) return fail("attribute " + key + " is not quoted"), false;
    if (!seen->insert(key).second) return fail("attribute " + key + " twice"), false;
    attributes.insert(key);
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '<' || text_[at_] == '>') return fail("unescaped in attribute " + key), false;
      if (text_[at_] != '&')
        ++at_;
      else if (entity(); !error.empty())
        return false;
    }
    const std::string value(text_.substr(begin, at_ - begin));
    if (!take("\"")) return fail("open quote"), false;
    if (key == "id" && !ids_.insert(value).second) return fail("id twice: " + value), false;
    if (key == "aria-labelledby") {
      for (size_t from = 0; from <= value.size();) {
        const size_t to = std::min(value.find(' ', from), value.size());
        references_.push_back(value.substr(from, to - from));
        from = to + 1;
      }
    }
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> open_, references_;
  std::set<std::string> ids_;
};

const std::vector<Certificate>& samples() {
  static const std::vector<Certificate> all{passing_sample(), failing_sample(), sparse_sample(),
                                            hostile_sample()};
  return all;
}

TEST(StrictPage, FindsMistakes) {
  const auto error = [](const std::string& body) { return StrictPage("<!doctype html>\n" + body).error; };
  EXPECT_EQ(error("<p class=\"a\">x &amp; y<br/></p>"), "");
  for (const auto* bad : {"<p>", "</p>", "<p><b></p></b>", "<p class=a></p>", "a & b", "a > b",
                          "<p a=\"<\"></p>", "<p a=\"1\" a=\"2\"></p>", "<p id=\"x\"></p><p id=\"x\"></p>",
                          "<p aria-labelledby=\"y\"></p>", "< p></p>", "&nbsp;"}) {
    EXPECT_NE(error(bad), "") << bad;
  }
}

TEST(Report, IsWellFormed) {
  for (const Certificate& c : samples()) EXPECT_EQ(StrictPage(render_report(c)).error, "") << c.model;
}

TEST(Report, IsWellFormedWhateverIsMissing) {
  const Json whole = certificate_to_json(passing_sample());
  for (const char* field : {"budget", "parts", "speed", "greedy_prefix", "checks", "profile", "made_by"}) {
    Json json = whole;
    json.erase(field);
    const auto c = certificate_from_json(json, "x");
    ASSERT_TRUE(c.ok());
    EXPECT_EQ(StrictPage(render_report(*c)).error, "") << field;
  }
  EXPECT_EQ(StrictPage(render_report(Certificate{})).error, "");
}

TEST(Report, LoadsNothingAndRunsNothing) {
  for (const Certificate& c : samples()) {
    const std::string html = render_report(c);
    const StrictPage page(html);
    for (const auto* loader : {"script", "img", "link", "iframe", "object", "embed", "image", "use", "base",
                               "form", "a", "foreignObject"}) {
      EXPECT_FALSE(page.elements.count(loader)) << loader;
    }
    for (const std::string& name : page.attributes) {
      EXPECT_NE(name.substr(0, 2), "on") << name;
      EXPECT_FALSE(name == "src" || name == "href" || name == "srcset" || name == "style" || name == "data")
          << name;
    }
    EXPECT_EQ(html.find("url("), std::string::npos);
    EXPECT_EQ(html.find("@import"), std::string::npos);
    EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
  }
  EXPECT_EQ(render_report(passing_sample()).find("://"), std::string::npos);
}

TEST(Report, HostileNamesStayText) {
  const std::string html = render_report(hostile_sample());
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_EQ(html.find("<svg onload"), std::string::npos);
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_EQ(html.find("\xE2\x80\xAE"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), std::string::npos);
  EXPECT_NE(html.find("&amp;amp;-"), std::string::npos);
}

TEST(Report, SaysWhatCounts) {
  const std::string passed = StrictPage(render_report(passing_sample())).words;
  for (const auto* words :
       {"Passed", "Qwen2.5-0.5B-Instruct", "x86-vnni", "0.00412", "0.00381 to 0.00447", "97.87", "× 1.0049",
        "38.2 tok/s", "measured", "187", "121 tensors were carried bit for bit", "grade-school arithmetic",
        "KLD by position", "Error by layer", "Size by scheme", "Speed by scheme",
        "How the KLD is distributed"}) {
    EXPECT_NE(passed.find(words), std::string::npos) << words;
  }
  const std::string failed = StrictPage(render_report(failing_sample())).words;
  for (const auto* words : {"Failed", "4 of 9 verdicts failed", "Predicted, not measured",
                            "3 of 32 answers end in a loop", "96.31"}) {
    EXPECT_NE(failed.find(words), std::string::npos) << words;
  }
  const std::string sparse = StrictPage(render_report(sparse_sample())).words;
  for (const auto* words : {"Measured, not judged", "Text generated by the source was not measured",
                            "No tasks were tried", "Not tried: ", "Speed was not measured"}) {
    EXPECT_NE(sparse.find(words), std::string::npos) << words;
  }
  EXPECT_EQ(sparse.find("Passed"), std::string::npos);
}

TEST(Report, NoFigureIsEverPrintedRaw) {
  for (const Certificate& c : samples()) {
    const std::string html = render_report(c);
    for (const auto* raw : {"\"nan", "\"-nan", "\"inf", ">nan", ">-nan", ">inf<", "nan%", "inf%"}) {
      EXPECT_EQ(html.find(raw), std::string::npos) << raw;
    }
  }
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Plots, OneColumnALayer) {
  const PlotText text{"p", "t", "d"};
  std::vector<double> values(80, 0.5);
  values[3] = double{INFINITY};
  const std::string svg = column_plot(text, values, 0, "layer");
  EXPECT_EQ(count_of(svg, "<rect class=\"b1\""), 79u);
  EXPECT_EQ(count_of(svg, "<rect class=\"broken\""), 1u);
  EXPECT_NE(svg.find("layer 3: not finite"), std::string::npos);
}

TEST(Plots, HeightsAreProportional) {
  // From 190 (zero) to 10 (the top tick, here 4): 1 -> 145, 2 -> 100, 4 -> 10.
  const std::string svg = column_plot({"p", "t", "d"}, {1, 2, 4}, 0, "layer");
  EXPECT_NE(svg.find("y=\"145.0\" width=\"25.33%\" height=\"45.0\""), std::string::npos) << svg;
  EXPECT_NE(svg.find("y=\"100.0\" width=\"25.33%\" height=\"90.0\""), std::string::npos);
  EXPECT_NE(svg.find("y=\"10.0\" width=\"25.33%\" height=\"180.0\""), std::string::npos);
}

TEST(Plots, NothingToDraw) {
  const PlotText text{"p", "t", "d"};
  EXPECT_EQ(line_plot(text, {}, 16, "x"), "");
  EXPECT_EQ(line_plot(text, {{"a", {}}}, 16, "x"), "");
  EXPECT_EQ(column_plot(text, {}, 0, "x"), "");
  EXPECT_EQ(log_row_plot(text, {"a"}, {{"s", {0}}}, "x"), "");
  EXPECT_EQ(bar_plot(text, {}), "");
  EXPECT_EQ(share_plot(text, {}), "");
}

TEST(Plots, DegenerateValuesStillDraw) {
  const PlotText text{"p", "t", "d"};
  const auto sound = [](const std::string& svg) {
    EXPECT_EQ(StrictPage("<!doctype html>\n" + svg).error, "");
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    return !svg.empty();
  };
  EXPECT_TRUE(sound(line_plot(text, {{"a", {0, 0, 0}}}, 1, "x")));
  EXPECT_TRUE(sound(line_plot(text, {{"a", {1e-300}}}, 1, "x")));
  EXPECT_TRUE(sound(column_plot(text, {1e300, 1e-300}, 0, "x")));
  EXPECT_TRUE(sound(log_row_plot(text, {"a", "b"}, {{"s", {1e-300, 1e300}}}, "x")));
  EXPECT_TRUE(sound(bar_plot(text, {{"a", "0", 0}, {"b", "-", double{NAN}}})));
  EXPECT_TRUE(sound(share_plot(text, {{"a", {{double{NAN}, 0, 1}, {1, double{NAN}, double{NAN}}}}})));
}

}  // namespace
}  // namespace fettle
