#!/usr/bin/env python3
"""House style that a program can check: length of files, format, words that must not be in the checkout.

check_style.py [ROOT] checks; check_style.py --sources prints the C++ sources that the format applies to.
"""

import re
import subprocess
import sys
from pathlib import Path

import repo

WARN_LINES, FAIL_LINES = 500, 800
CODE_SUFFIXES = {".cc", ".h", ".py", ".sh", ".rs", ".ts", ".svelte", ".cmake"}
CODE_NAMES = {"dev", "run", "test", "CMakeLists.txt"}
CLANG_FORMAT = "clang-format-14"

# What stands at the top of the checkout; everything else has a folder.
TOP = set(
    """
    .ci .clang-format .clang-tidy .gitignore CMakeLists.txt CMakePresets.json LICENSE README.md dev run test
    bench cmake console docs native packaging src targets tests tools
    """.split()
)

# What ties the checkout to one machine or network. Written so that this file does not match itself.
FORBIDDEN = [
    (re.compile(r"(?<![\w.-])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/"), "a path of one machine"),
    (
        re.compile(r"https?://(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d"),
        "an address of a private network",
    ),
    (re.compile(r"https?://[\w.-]+\.(?:interna[l]|loca[l]|la[n]|cor[p])\b"), "a host of a private network"),
    (
        re.compile(r"(?i)\bartifactor[y]|\bnexu[s]/repository|index-ur[l]"),
        "a package registry of one network",
    ),
    (
        re.compile(r"https?://(?:\w+\.)?(?:pypi\.or[g]|pythonhosted\.or[g]|npmjs\.or[g]|crates\.i[o])"),
        "a package registry",
    ),
    (re.compile(r"\bDISABLE[D]_\w"), "a test that is switched off: use GTEST_SKIP() << reason"),
]
# Lock files name the public registries by nature; any other host in them is somebody's mirror.
LOCK_FILES = {"Cargo.lock", "package-lock.json"}
LOCK_HOSTS = {"github.com/rust-lang/crates.io-index", "registry.npmjs.org"}
LOCK_SOURCE = re.compile(r"(?:registry\+|\"resolved\": \")https?://([^/\"]+(?:/rust-lang/crates\.io-index)?)")


def is_code(path: Path) -> bool:
    return path.suffix in CODE_SUFFIXES or path.name in CODE_NAMES


def is_data(path: Path) -> bool:
    return path.parts[:2] == ("tests", "data") or path.parts[:3] == ("tests", "fuzz", "corpus")


def check_top(root: Path) -> repo.Check:
    names = {path.relative_to(root).parts[0] for path in repo.files(root, tracked_only=True)}
    return repo.Check(
        "the root holds only what belongs there",
        [f"{name}: does not belong at the top; give it a folder, or a line in TOP" for name in sorted(names - TOP)],
    )


def check_length(root: Path, paths: list[Path]) -> repo.Check:
    problems, notes = [], []
    for path in filter(is_code, paths):
        lines = repo.text_of(path).count("\n")
        said = f"{path.relative_to(root)}: {lines} lines"
        if lines > FAIL_LINES:
            problems.append(f"{said}; at most {FAIL_LINES}: split it by idea")
        elif lines > WARN_LINES:
            notes.append(f"{said}; aim at 300, at most {FAIL_LINES}")
    return repo.Check("files are short", problems, notes)


def check_words(root: Path, paths: list[Path]) -> repo.Check:
    problems = []
    for path in paths:
        if b"\0" in path.read_bytes()[:4096]:
            continue
        name = path.relative_to(root)
        for number, line in enumerate(repo.text_of(path).splitlines(), 1):
            if path.name in LOCK_FILES:
                hosts = set(LOCK_SOURCE.findall(line)) - LOCK_HOSTS
                problems += [f"{name}:{number}: {host} is not a public registry" for host in hosts]
                continue
            for pattern, why in FORBIDDEN:
                found = pattern.search(line)
                if found:
                    problems.append(f"{name}:{number}: `{found[0]}` is {why}")
    return repo.Check("no machine, network or registry is named", problems)


def check_format(root: Path, sources: list[Path]) -> repo.Check:
    problems = []
    for start in range(0, len(sources), 50):
        some = [str(p.relative_to(root)) for p in sources[start : start + 50]]
        done = subprocess.run(
            [CLANG_FORMAT, "--dry-run", "-Werror", *some], cwd=root, capture_output=True, text=True
        )
        if done.returncode:
            problems += sorted(
                {line.split(":")[0] for line in done.stderr.splitlines() if ": error:" in line}
            )
    return repo.Check("C++ is formatted", [f"{name}: not formatted; run ./dev fmt" for name in problems])


def formatted_sources(root: Path) -> list[Path]:
    """Lists (.inc) are tables and keep their columns."""
    return [
        p for p in repo.cpp_sources(root) if p.suffix != ".inc" and "data" not in p.relative_to(root).parts
    ]


def run_checks(root: Path) -> list[repo.Check]:
    paths = [p for p in repo.files(root) if not is_data(p.relative_to(root))]
    return [
        check_top(root),
        check_length(root, paths),
        check_words(root, paths),
        check_format(root, formatted_sources(root)),
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--sources"]:
        print(*formatted_sources(repo.root_of()), sep="\n")
    else:
        repo.main(run_checks)
