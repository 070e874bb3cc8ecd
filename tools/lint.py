#!/usr/bin/env python3
"""clang-tidy on every source under src/ that changed since it was last found clean.

"Changed" is the hash of the file, of every header of ours it includes, of its compile command and of
.clang-tidy; the hashes of clean files are kept as empty files in build/tidy-cache, so a warm run takes seconds.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check_layers
import repo

CLANG_TIDY = "clang-tidy-14"
FINDING = re.compile(r"^(/.*?|\S+):\d+:\d+: (?:warning|error): ")


def compile_commands(root: Path) -> dict[Path, str]:
    database = root / "build" / "compile_commands.json"
    if not database.is_file():
        return {}
    return {Path(e["file"]): e["command"] for e in json.loads(database.read_text())}


def own_headers(path: Path, src: Path, seen: set[Path]) -> set[Path]:
    for _, quote, header in check_layers.includes(path):
        found = src / header
        if quote == '"' and found not in seen and found.is_file():
            seen.add(found)
            own_headers(found, src, seen)
    return seen


def state_of(path: Path, command: str, root: Path, common: bytes) -> str:
    """The hash of all that the verdict on `path` depends on. Paths of this checkout are left out of it."""
    digest = hashlib.sha256(common)
    digest.update(command.replace(str(root), "").encode())
    for source in [path, *sorted(own_headers(path, root / "src", set()))]:
        digest.update(f"{source.relative_to(root)}\0".encode() + source.read_bytes())
    return digest.hexdigest()


def tidy(path: Path, root: Path) -> list[str]:
    """What clang-tidy has to say about one source: its findings, or why it could not look."""
    # The commands are written for g++, some of whose warnings clang does not know.
    command = [
        CLANG_TIDY,
        "--quiet",
        "--extra-arg=-Wno-unknown-warning-option",
        "-p",
        str(root / "build"),
        str(path),
    ]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, errors="replace", timeout=600
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{path.relative_to(root)}: {error}"]
    found = [line.replace(f"{root}/", "") for line in done.stdout.splitlines() if FINDING.match(line)]
    if done.returncode and not found:
        found = [
            f"{path.relative_to(root)}: {CLANG_TIDY} ended with {done.returncode}:"
            f" {done.stderr.strip()[-500:]}"
        ]
    return found


def common_state(root: Path) -> bytes:
    version = subprocess.run([CLANG_TIDY, "--version"], capture_output=True).stdout
    return version + (root / ".clang-tidy").read_bytes()


def run_checks(root: Path, only: list[str] | None = None) -> repo.Check:
    name = f"{CLANG_TIDY} finds nothing"
    commands = compile_commands(root)
    if not commands:
        return repo.Check(name, ["build/compile_commands.json is missing; run ./dev build first"])
    cache = root / "build" / "tidy-cache"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        common = common_state(root)
    except OSError as error:
        return repo.Check(name, [str(error)])
    sources = [
        p
        for p in repo.cpp_sources(root, "src")
        if p in commands and (not only or p.relative_to(root).as_posix() in only)
    ]
    states = {p: state_of(p, commands[p], root, common) for p in sources}
    changed = [p for p in sources if not (cache / states[p]).exists()]
    start = time.monotonic()
    problems: list[str] = []
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for path, found in zip(changed, pool.map(lambda p: tidy(p, root), changed)):
            problems += found
            if not found:
                (cache / states[path]).touch()
    note = f"{len(sources)} sources, {len(changed)} changed, {time.monotonic() - start:.0f} s"
    return repo.Check(name, sorted(set(problems)), [note])


if __name__ == "__main__":
    sys.exit(repo.report([run_checks(repo.root_of(), sys.argv[1:])]))
