// The certificate as one HTML page for the people who decide: verdict, key figures, plots as inline SVG,
// tables, provenance and what the numbers mean. Self-contained: no script, no font, no image, nothing is
// loaded; a Content-Security-Policy says so too.
#pragma once

#include <string>

#include "quality/certificate.h"

namespace fettle {

std::string render_report(const Certificate& certificate);

}  // namespace fettle
