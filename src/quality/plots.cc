#include "quality/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "quality/html.h"
#include "quality/wording.h"

namespace fettle {

namespace {

constexpr double kTop = 10,
                 kBottom =
                     190;  // the plotting area in pixels; below it stand tick labels and the axis's name
constexpr int kHeight = 232;

std::string open_svg(const PlotText& text, int height, bool gutter) {
  return fmt::format(
      "<svg class=\"plot{}\" height=\"{}\" role=\"img\" aria-labelledby=\"{}-t {}-d\"><title "
      "id=\"{}-t\">{}</title>"
      "<desc id=\"{}-d\">{}</desc>\n",
      gutter ? " gutter" : "", height, text.id, text.id, text.id, escape_html(text.title), text.id,
      escape_html(text.description));
}

std::string label(std::string_view x, double y, std::string_view anchor, std::string_view text,
                  std::string_view style = "tick") {
  return fmt::format("<text class=\"{}\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>", style, x, y,
                     anchor, escape_html(text));
}

std::string at(double share) { return fmt::format("{:.2f}%", 100 * share); }

std::string line(std::string_view style, std::string_view x1, double y1, std::string_view x2, double y2) {
  return fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\"/>", style, x1, y1,
                     x2, y2);
}

// Filled for the first series and open for the second, so that they differ without colour too.
std::string marker(size_t series, double share, double y, std::string_view hint) {
  return fmt::format("<circle class=\"m{}\" cx=\"{}\" cy=\"{:.1f}\" r=\"3.5\"><title>{}</title></circle>",
                     series + 1, at(share), y, escape_html(hint));
}

// The least of 1, 2, 5 times a power of ten that divides [0, top] into at most `parts`.
double nice_step(double top, int parts) {
  if (!(top > 0)) return 1;
  const double least = top / parts, power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (digit * power >= least * (1 - 1e-9)) return digit * power;
  }
  return 10 * power;
}

double finite_maximum(const std::vector<PlotSeries>& series) {
  double best = -1;
  for (const PlotSeries& s : series) {
    for (const double y : s.y) best = std::isfinite(y) ? std::max(best, y) : best;
  }
  return best;
}

// A vertical axis from zero to the next tick above `top`.
struct Axis {
  explicit Axis(double top)
      : step(nice_step(top, 4)), end(std::max(1.0, std::ceil(top / step - 1e-9)) * step) {}
  double y(double value) const { return kBottom - (kBottom - kTop) * std::min(value / end, 1.0); }
  std::string grid() const {
    std::string out;
    for (int i = 0; i * step <= end * (1 + 1e-9); ++i) {
      const double here = y(i * step);
      out += line(i == 0 ? "axis" : "grid", "0", here, "100%", here);
      out += label("-8", here + 4, "end", fmt::format("{:.6g}", i * step)) + "\n";
    }
    return out;
  }
  double step, end;
};

std::string legend(const std::vector<PlotSeries>& series) {
  if (series.size() < 2) return "";
  std::string out = "<p class=\"legend\">";
  for (size_t i = 0; i < series.size(); ++i) {
    out += fmt::format("<span class=\"key k{}\"></span>{} ", i + 1, escape_html(series[i].name));
  }
  return out + "</p>\n";
}

constexpr std::string_view kNotFinite = "not finite";

std::string bar_rect(const std::string& style, double x, double width, double y, double height) {
  return fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{:.1f}\" width=\"{}\" height=\"{:.1f}\"", style, at(x),
                     y, at(width), height);
}

}  // namespace

std::string line_plot(const PlotText& text, const std::vector<PlotSeries>& series, double step,
                      const std::string& x_name) {
  const double top = finite_maximum(series);
  if (top < 0) return "";
  size_t count = 0;
  for (const PlotSeries& s : series) count = std::max(count, s.y.size());
  const double width = static_cast<double>(count) * step;
  const Axis axis(top);
  std::string out = legend(series) + open_svg(text, kHeight, true) + axis.grid();
  const double tick = nice_step(width, 5);
  for (int i = 0; i * tick <= width * (1 + 1e-9); ++i) {
    out += label(at(i * tick / width), kBottom + 18, "middle", fmt::format("{:.6g}", i * tick));
  }
  out += label("50%", kBottom + 38, "middle", x_name, "axis-name") + "\n";
  const auto x = [&](size_t i) { return (static_cast<double>(i) + 0.5) * step / width; };
  // The second series first: the held-out text, which is the first, stays on top.
  for (size_t s = series.size(); s-- > 0;) {
    const auto& y = series[s].y;
    for (size_t i = 0; i + 1 < y.size(); ++i) {
      if (!std::isfinite(y[i]) || !std::isfinite(y[i + 1])) continue;
      out += line(fmt::format("s{}", s + 1), at(x(i)), axis.y(y[i]), at(x(i + 1)), axis.y(y[i + 1]));
    }
    for (size_t i = 0; i < y.size(); ++i) {
      const double from = static_cast<double>(i) * step;
      const std::string range = fmt::format("{:.6g} to {:.6g}", from, from + step - 1);
      if (std::isfinite(y[i])) {
        out += marker(s, x(i), axis.y(y[i]),
                      fmt::format("{}, {}: {}", series[s].name, range, wording::figure(y[i])));
      } else {
        out += bar_rect("broken", from / width, step / width, kTop, kBottom - kTop) +
               fmt::format("><title>{}: {}</title></rect>", range, kNotFinite);
      }
    }
    out += "\n";
  }
  return out + "</svg>\n";
}

std::string column_plot(const PlotText& text, const std::vector<double>& values, int64_t first_x,
                        const std::string& x_name) {
  const double top = finite_maximum({{"", values}});
  if (top < 0) return "";
  const Axis axis(top);
  const double count = static_cast<double>(values.size()), slot = 1 / count;
  std::string out = open_svg(text, kHeight, true) + axis.grid();
  const auto every = static_cast<int64_t>(std::max(1.0, nice_step(count, 9)));
  for (size_t i = 0; i < values.size(); ++i) {
    const double left = static_cast<double>(i) * slot;
    const int64_t number = first_x + static_cast<int64_t>(i);
    const bool finite = std::isfinite(values[i]);
    const double y = finite ? axis.y(values[i]) : kTop;
    out += bar_rect(finite ? "b1" : "broken", left + slot * 0.12, slot * 0.76, y, kBottom - y);
    out += fmt::format("><title>{} {}: {}</title></rect>\n", escape_html(x_name), number,
                       finite ? wording::figure(values[i]) : std::string(kNotFinite));
    if (number % every == 0)
      out += label(at(left + slot / 2), kBottom + 18, "middle", std::to_string(number));
  }
  return out + label("50%", kBottom + 38, "middle", x_name, "axis-name") + "</svg>\n";
}

std::string log_row_plot(const PlotText& text, const std::vector<std::string>& rows,
                         const std::vector<PlotSeries>& series, const std::string& x_name) {
  double least = 0, most = 0;
  for (const PlotSeries& s : series) {
    for (const double v : s.y) {
      if (!std::isfinite(v) || v <= 0) continue;
      least = least > 0 ? std::min(least, v) : v;
      most = std::max(most, v);
    }
  }
  if (least <= 0) return "";
  const double first = std::floor(std::log10(least)), last = std::max(first + 1, std::ceil(std::log10(most)));
  const auto x = [&](double v) {
    return v > 0 ? std::clamp((std::log10(v) - first) / (last - first), 0.0, 1.0) : 0.0;
  };
  constexpr double kRow = 30;
  const double bottom = kTop + kRow * static_cast<double>(rows.size());
  std::string out = legend(series) + open_svg(text, static_cast<int>(bottom) + 42, true);
  const double every = std::ceil((last - first) / 5);
  for (double decade = first; decade <= last; decade += 1) {
    const std::string here = at((decade - first) / (last - first));
    out += line("grid", here, kTop, here, bottom);
    if (std::fmod(decade - first, every) == 0) {
      out += label(here, bottom + 18, "middle", fmt::format("{:.6g}", std::pow(10.0, decade)));
    }
  }
  out += label("50%", bottom + 38, "middle", x_name, "axis-name") + "\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    const double y = kTop + kRow * (static_cast<double>(r) + 0.5);
    out += label("-8", y + 4, "end", rows[r]);
    for (size_t s = series.size(); s-- > 0;) {
      if (r >= series[s].y.size()) continue;
      const double v = series[s].y[r];
      const bool finite = std::isfinite(v);
      const std::string hint = fmt::format("{}, {}: {}", series[s].name, rows[r], wording::figure(v));
      if (finite && r + 1 < series[s].y.size() && std::isfinite(series[s].y[r + 1])) {
        out += line(fmt::format("s{}", s + 1), at(x(v)), y, at(x(series[s].y[r + 1])), y + kRow);
      }
      out += finite ? marker(s, x(v), y, hint) : label("100%", y - 7, "end", kNotFinite, "broken-text");
    }
    out += "\n";
  }
  return out + "</svg>\n";
}

std::string bar_plot(const PlotText& text, const std::vector<PlotBar>& bars) {
  if (bars.empty()) return "";
  constexpr double kRow = 44;
  double most = 0;
  for (const PlotBar& bar : bars) most = std::isfinite(bar.value) ? std::max(most, bar.value) : most;
  std::string out = open_svg(text, static_cast<int>(kRow * static_cast<double>(bars.size())), false);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = kRow * static_cast<double>(i);
    const double share =
        std::isfinite(bars[i].value) && most > 0 ? std::clamp(bars[i].value / most, 0.0, 1.0) : 0;
    out += label("0", y + 15, "start", wording::shorten(wording::printable(bars[i].label), 24), "row-name");
    out += label("100%", y + 15, "end", bars[i].value_text, "row-value");
    out += bar_rect("track", 0, 1, y + 22, 10) + " rx=\"2\"/>";
    out += bar_rect("b1", 0, share, y + 22, 10) + " rx=\"2\"/>\n";
  }
  return out + "</svg>\n";
}

std::string share_plot(const PlotText& text, const std::vector<PlotRange>& rows) {
  if (rows.empty()) return "";
  constexpr double kRow = 56;
  const double bottom = kRow * static_cast<double>(rows.size());
  std::string out = open_svg(text, static_cast<int>(bottom) + 26, false);
  for (const int tick : {0, 25, 50, 75, 100}) {
    const std::string here = at(tick / 100.0);
    out += line("grid", here, 0, here, bottom);
    out += label(here, bottom + 18,
                 tick == 0     ? "start"
                 : tick == 100 ? "end"
                               : "middle",
                 fmt::format("{} %", tick));
  }
  out += "\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    const double y = kRow * static_cast<double>(r);
    out += label("0", y + 15, "start", wording::shorten(wording::printable(rows[r].label), 34), "row-name");
    for (size_t s = 0; s < rows[r].series.size(); ++s) {
      const Interval& i = rows[r].series[s];
      const double here = y + 28 + 14 * static_cast<double>(s);
      if (!std::isfinite(i.value)) continue;
      if (std::isfinite(i.low) && std::isfinite(i.high)) {
        out += line(fmt::format("s{}", s + 1), at(i.low), here, at(i.high), here);
      }
      out += marker(s, i.value, here, wording::percent(i.value, 1));
    }
    out += "\n";
  }
  return out + "</svg>\n";
}

}  // namespace fettle
