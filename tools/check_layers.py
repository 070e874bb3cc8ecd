#!/usr/bin/env python3
"""Who may include whom. Reads the #include lines under src/ and fails on an edge that the design forbids.

A folder may include itself, the folders in its line of FOLDERS, and what those may. An entry with a slash is
one file (or a pattern of files) of a folder that is otherwise closed.
"""

import re
from fnmatch import fnmatch
from pathlib import Path

import repo

KERNEL_LISTS = "kernels/*.inc kernels/cpu_features.h kernels/*/linear.h kernels/*/layout.h"

ADAPTING = "checkpoint target quant arch weights passes plan"

FOLDERS = {
    "base": "",
    "tensor": "base",
    "graph": "tensor",
    "text": "base",
    "kernels": "tensor",
    "device": "kernels",
    "pull": "base",
    # serving
    "artifact": "graph plan/plan.h runtime/weight_store.h kernels/linear/layout.h",
    "runtime": "artifact device",
    "server": "runtime text",
    # adapting
    "checkpoint": "tensor",
    "target": "tensor",
    "quant": "tensor kernels/cpu_features.h kernels/elementwise/elementwise.h",
    "arch": "checkpoint graph",
    "weights": "graph checkpoint quant runtime/weight_store.h kernels/linear/layout.h",
    "passes": f"graph target quant plan/plan.h {KERNEL_LISTS}",
    "plan": f"graph target {KERNEL_LISTS}",
    # on top
    "quality": "runtime text weights arch passes",
    "fit": f"{ADAPTING} quality device",
    "tune": "fit",
    "export": "fit",
    "cli": "server tune export fit pull",
}

# Serving reads only a packed artifact: not even through another header may it reach these.
CLOSED_TO_SERVING = {"runtime": "checkpoint arch passes quant", "server": "checkpoint arch passes quant"}

# Library header -> the only folders or files that may include it.
LIBRARIES = {
    "nlohmann/": "base/json.h base/json.cc base/json_stream.cc",
    "openssl/": "base server",
    "curl/": "pull",
    "zlib.h": "pull server",
    "zstd": "base server",
    "CLI/": "cli",
    "toml++/": "target",
    "Eigen/": "quant tune",
    "fettle_text.h": "text",
    "boost/": "server",
    "sqlite3.h": "server",
    "libpq-fe.h": "server",
    "CL/": "device",
    "mpi.h": "device",
    "fmt/": "*",
}
# The pause instruction of a waiting thread has no portable spelling.
ISA_EXCEPTIONS = {"base/thread_pool.cc"}
SYSTEM_FOLDERS = {"sys", "arpa", "netinet", "net", "linux", "asm", "experimental"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
ISA_TEST = re.compile(
    r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b.*"
    r"\b(__(?:AVX|SSE|FMA|ARM|aarch64|arm|x86_64|i386|CUDA|HIP)\w*)",
    re.MULTILINE,
)


def expand(folder: str, seen: set[str] | None = None) -> set[str]:
    """Everything that `folder` may include: folders and file patterns."""
    seen = set() if seen is None else seen
    if folder not in seen:
        seen.add(folder)
        for entry in FOLDERS[folder].split():
            if "/" in entry:
                seen.add(entry)
            else:
                expand(entry, seen)
    return seen


def allowed(place: str, entries) -> bool:
    """Is the file `place` (folder/file) covered by one of the entries (folders, files, patterns)?"""
    return any(place == e or place.split("/")[0] == e or fnmatch(place, e) for e in entries)


def includes(path: Path) -> list[tuple[int, str, str]]:
    text = repo.text_of(path)
    return [(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in INCLUDE.finditer(text)]


def library_of(header: str) -> str | None:
    return next((key for key in LIBRARIES if header.startswith(key)), None)


def check_folder_edges(src: Path, tree: dict[str, list]) -> list[str]:
    problems = []
    for place, found in tree.items():
        folder = place.split("/")[0]
        if folder not in FOLDERS:
            problems.append(
                f"src/{place}: folder `{folder}` is unknown; add it to FOLDERS of tools/check_layers.py"
            )
            continue
        may = expand(folder)
        for line, quote, header in found:
            if quote == "<" or library_of(header):
                continue
            if not (src / header).is_file():
                problems.append(
                    f'src/{place}:{line}: "{header}" is no file under src/; write "folder/file.h"'
                )
            elif not allowed(header, may):
                problems.append(
                    f"src/{place}:{line}: {folder} may not include {header} (it may: {' '.join(sorted(may))})"
                )
    return problems


def check_library_edges(tree: dict[str, list]) -> list[str]:
    problems = []
    for place, found in tree.items():
        for line, quote, header in found:
            library = library_of(header)
            if library:
                homes = LIBRARIES[library].split()
                if homes != ["*"] and not allowed(place, homes):
                    problems.append(f"src/{place}:{line}: <{header}> belongs to {', '.join(homes)} only")
            elif quote == "<" and "/" in header and header.split("/")[0] not in SYSTEM_FOLDERS:
                problems.append(
                    f"src/{place}:{line}: <{header}> is a library without an owner; see docs/dependencies.md"
                )
    return problems


def reach(start: str, tree: dict[str, list]) -> dict[str, str]:
    """Every file that `start` includes, however deep -> the file that brought it in."""
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        place = waiting.pop()
        for _, quote, header in tree.get(place, []):
            if quote == '"' and header in tree and header not in came_from and header != start:
                came_from[header] = place
                waiting.append(header)
    return came_from


def check_serving(tree: dict[str, list]) -> list[str]:
    problems = []
    for place in tree:
        closed = CLOSED_TO_SERVING.get(place.split("/")[0], "").split()
        for header, through in reach(place, tree).items() if closed else ():
            if header.split("/")[0] in closed and through.split("/")[0] not in closed:
                problems.append(
                    f"src/{place}: reaches {header} through {through}; serving reads only a packed artifact"
                )
    return problems


def check_isa_tests(src: Path, tree: dict[str, list]) -> list[str]:
    problems = []
    for place in tree:
        if place.split("/")[0] in ("device", "kernels") or place in ISA_EXCEPTIONS:
            continue
        text = repo.text_of(src / place)
        for m in ISA_TEST.finditer(text):
            line = text.count("\n", 0, m.start()) + 1
            problems.append(
                f"src/{place}:{line}: #if on {m[1]}; instruction sets are the business of device and kernels"
            )
    return problems


def run_checks(root: Path) -> list[repo.Check]:
    src = root / "src"
    tree = {p.relative_to(src).as_posix(): includes(p) for p in repo.cpp_sources(root, "src")}
    return [
        repo.Check("folders include only what they may", check_folder_edges(src, tree)),
        repo.Check("libraries stay in their folder", check_library_edges(tree)),
        repo.Check("serving reaches nothing of adapting", check_serving(tree)),
        repo.Check("instruction sets stay in device and kernels", check_isa_tests(src, tree)),
    ]


if __name__ == "__main__":
    repo.main(run_checks)
