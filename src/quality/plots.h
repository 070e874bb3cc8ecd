// Plots as inline SVG that need no script and print. Across, everything is placed in per cent of the width;
// down, and for text, in pixels: a plot fills whatever width it is given and its letters keep their size, on
// a telephone as on paper. Colours come from the page's style sheet (classes s1, s2, grid, tick, broken).
// Values that are not finite are drawn as such, never left out silently. A plot of nothing is the empty
// string.
#pragma once

#include <string>
#include <vector>

#include "quality/metrics.h"

namespace fettle {

struct PlotText {
  std::string id;           // unique in the page, letters and dashes
  std::string title;        // what a screen reader says first
  std::string description;  // the plot's message in a sentence
};

struct PlotSeries {
  std::string name;
  std::vector<double> y;
};

// Lines over x = (i + 1/2) * step, from zero up. At most two series.
std::string line_plot(const PlotText& text, const std::vector<PlotSeries>& series, double step,
                      const std::string& x_name);

// One column a value; first_x is the number of the first.
std::string column_plot(const PlotText& text, const std::vector<double>& values, int64_t first_x,
                        const std::string& x_name);

// Rows from top to bottom, positive values on a logarithmic axis: one marker a row and series.
std::string log_row_plot(const PlotText& text, const std::vector<std::string>& rows,
                         const std::vector<PlotSeries>& series, const std::string& x_name);

// Horizontal bars from zero, label and value above each.
struct PlotBar {
  std::string label, value_text;
  double value = 0;
};
std::string bar_plot(const PlotText& text, const std::vector<PlotBar>& bars);

// Shares with their intervals on an axis from 0 to 100 %, the first series above the second.
struct PlotRange {
  std::string label;
  std::vector<Interval> series;
};
std::string share_plot(const PlotText& text, const std::vector<PlotRange>& rows);

}  // namespace fettle
