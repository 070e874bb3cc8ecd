"""tools/check_layers.py and check_style.py find what they are there to find, and nothing in a clean tree."""

import sys
import tempfile
from pathlib import Path

from cases import ROOT, case, main

sys.path.insert(0, str(ROOT / "tools"))
import check_layers  # noqa: E402
import check_style  # noqa: E402


def tree(files: dict[str, str]) -> Path:
    root = Path(tempfile.mkdtemp())
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def found(checker, files: dict[str, str]) -> str:
    return "\n".join(problem for check in checker.run_checks(tree(files)) for problem in check.problems)


HEADERS = {
    f"src/{name}": ""
    for name in ("base/file.h", "graph/graph.h", "quant/encode.h", "plan/plan.h", "plan/search.h")
}


def layers(place: str, *lines: str) -> str:
    return found(check_layers, HEADERS | {f"src/{place}": "".join(f"#include {line}\n" for line in lines)})


@case
def layers_accept_the_closure():
    assert (
        layers(
            "cli/main.cc", '"quant/encode.h"', '"base/file.h"', "<CLI/CLI.hpp>", "<vector>", "<sys/mman.h>"
        )
        == ""
    )
    assert layers("runtime/a.cc", '"graph/graph.h"', '"plan/plan.h"') == ""


@case
def layers_refuse_a_forbidden_edge():
    assert "src/graph/a.cc:2: graph may not include quant/encode.h" in layers(
        "graph/a.cc", "<map>", '"quant/encode.h"'
    )
    assert "base may not include graph/graph.h" in layers("base/a.h", '"graph/graph.h"')


@case
def layers_open_single_files_only():
    assert "artifact may not include plan/search.h" in layers(
        "artifact/a.cc", '"plan/plan.h"', '"plan/search.h"'
    )


@case
def layers_keep_serving_apart_through_headers():
    files = {
        "src/plan/plan.h": '#include "target/target.h"\n#include "quant/encode.h"\n',
        "src/target/target.h": "",
        "src/quant/encode.h": "",
        "src/runtime/a.cc": '#include "plan/plan.h"\n',
    }
    problems = found(check_layers, files)
    assert "src/runtime/a.cc: reaches quant/encode.h through plan/plan.h" in problems
    assert "reaches target" not in problems


@case
def layers_refuse_unknown_folders_and_files():
    assert "folder `extras` is unknown" in layers("extras/a.cc", "<map>")
    assert '"base/gone.h" is no file' in layers("graph/a.cc", '"base/gone.h"')


@case
def layers_keep_libraries_at_home():
    assert "<nlohmann/json.hpp> belongs to" in layers("graph/a.cc", "<nlohmann/json.hpp>")
    assert layers("base/json.h", "<nlohmann/json.hpp>") == ""
    assert "is a library without an owner" in layers("graph/a.cc", "<absl/status.h>")


@case
def layers_keep_instruction_sets_at_home():
    guarded = "#if defined(__AVX2__)\n#endif\n"
    assert "src/graph/a.cc:1: #if on __AVX2__" in found(check_layers, {"src/graph/a.cc": guarded})
    assert found(check_layers, {"src/kernels/a.cc": guarded}) == ""


@case
def style_counts_lines():
    assert "src/a.cc: 801 lines" in found(check_style, {"src/a.cc": "\n" * 801})
    notes = [n for c in check_style.run_checks(tree({"tools/a.py": "#\n" * 501})) for n in c.notes or []]
    assert notes == ["tools/a.py: 501 lines; aim at 300, at most 800"], notes


@case
def style_keeps_the_root_tidy():
    assert "ids.json: does not belong at the top" in found(check_style, {"ids.json": "{}", "docs/a.md": "x\n"})
    assert found(check_style, {"README.md": "x\n", ".ci/run": "x\n"}) == ""


@case
def style_finds_machine_paths():
    for path in (
        "/" + "work/main",
        "/" + "root/.cargo/",
        "/" + "home/ann/src",
        "https://" + "10.1.2.3/simple",
    ):
        assert "docs/a.md:2" in found(check_style, {"docs/a.md": f"fine\nsee {path}/x\n"}), path
    assert (
        found(check_style, {"docs/a.md": "https://example.org/home/x, relative/work/x, src/root/x\n"}) == ""
    )


@case
def style_finds_mirrors_in_lock_files():
    public = 'source = "registry+https://github.com/rust-lang/crates.io-index"\n'
    assert found(check_style, {"native/Cargo.lock": public}) == ""
    assert "Cargo.lock:1: mirror.example" in found(
        check_style, {"native/Cargo.lock": 'source = "registry+https://mirror.example/x"\n'}
    )


@case
def style_finds_unformatted_sources():
    assert "src/a.cc: not formatted" in found(
        check_style, {"src/a.cc": "int  x ;\n", ".clang-format": "BasedOnStyle: Google\n"}
    )
    assert found(check_style, {"src/a.cc": "int x;\n", ".clang-format": "BasedOnStyle: Google\n"}) == ""


main()
