#!/usr/bin/env python3
"""Builds and runs every test, counts test cases, and closes with "N passed, M failed".

The parts, in order: checks (layers, style), unit (GoogleTest programs and replays of the fuzz corpus), tools
(tests of the scripts), e2e (build/fettle as a user runs it), fuzz (libFuzzer for some seconds a target), tidy
(clang-tidy).
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import check_layers
import check_style
import lint
import repo
from jobs import Done, Job, run_all
from outcome import FAILED, PASSED, Case, counts, read_exit, read_gtest, read_lines, summary, tail

ROOT = repo.root_of()
LOGS = ROOT / "build" / "test-logs"
PROCESSORS = len(os.sched_getaffinity(0))


def say(text: str) -> None:
    print(text, flush=True)


def tell(done: Done) -> None:
    good = not any(c.status == FAILED for c in done.cases)
    say(f"  {'ok  ' if good else 'FAIL'} {done.job.name:<32} {counts(done.cases)}  {done.seconds:.1f} s")


def run_jobs(jobs: list[Job], side_by_side: int = PROCESSORS) -> list[Case]:
    done = {d.job.name: d.cases for d in run_all(jobs, LOGS, side_by_side, tell)}
    return [case for job in jobs for case in done[job.name]]


def build(preset: str, targets: list[str]) -> list[Case]:
    """Builds what it can; no case when all is built, a failed one otherwise."""
    say(f"  building {preset} {' '.join(targets)}")
    env = {**os.environ, "FETTLE_NINJA_FLAGS": "-k 0"}
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        done = subprocess.run(
            ["./dev", "build", preset, *targets], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
        )
        log.seek(0)
        return [] if done.returncode == 0 else [Case(f"build/{preset}", FAILED, tail(log.read(), 80))]


def build_dir(preset: str) -> Path:
    return ROOT / ("build" if preset == "release" else f"build-{preset}")


# --- the parts


def part_checks(_) -> list[Case]:
    cases = []
    for check in check_layers.run_checks(ROOT) + check_style.run_checks(ROOT):
        for note in check.notes or []:
            say(f"  note {note}")
        say(f"  {'FAIL' if check.problems else 'ok  '} {check.name}")
        cases.append(
            Case(f"checks: {check.name}", FAILED if check.problems else PASSED, "\n".join(check.problems))
        )
    return cases


def ctest_jobs(preset: str) -> list[Job]:
    listed = subprocess.run(
        ["ctest", "--show-only=json-v1"], cwd=build_dir(preset), capture_output=True, text=True
    )
    tests = json.loads(listed.stdout)["tests"] if listed.returncode == 0 else []
    jobs = []
    for test in tests:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        command = test.get("command") or [test["name"]]
        read = read_exit if test["name"].startswith("fuzz_replay_") else read_gtest
        job = Job(
            f"unit/{test['name']}",
            command,
            read,
            timeout_s=properties.get("TIMEOUT", 1200),
            cwd=build_dir(preset),
        )
        # The long ones first: none of them is then left to run alone at the end.
        jobs.insert(0 if "slow" in properties.get("LABELS", []) else len(jobs), job)
    return jobs


def part_unit(options) -> list[Case]:
    cases = build(options.preset, [])
    jobs = [job for job in ctest_jobs(options.preset) if options.only in job.name]
    return (
        cases + run_jobs(jobs)
        if jobs
        else cases + [Case("unit", FAILED, "there are no unit tests in this build")]
    )


def script_job(path: Path, folder: str, scratch: str) -> Job:
    own_scratch = Path(scratch) / path.stem
    own_scratch.mkdir()
    interpreter = [sys.executable] if path.suffix == ".py" else ["bash"]
    helper = ROOT / "tests" / "e2e" / "helper"
    env = {
        "FETTLE": str(ROOT / "build" / "fettle"),
        "FETTLE_ROOT": str(ROOT),
        "FETTLE_TEST_DATA": str(ROOT / "tests" / "data"),
        "FETTLE_TMP": str(own_scratch),
        "TMPDIR": str(own_scratch),
        "FETTLE_CACHE": str(Path(scratch) / "cache"),
        "PYTHONPATH": str(helper),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Job(f"{folder}/{path.stem}", [*interpreter, str(path)], read_lines, env, cwd=own_scratch)


def run_scripts(paths: list[Path], folder: str, only: str, side_by_side: int) -> list[Case]:
    with tempfile.TemporaryDirectory(prefix="fettle-test-") as scratch:
        jobs = [script_job(p, folder, scratch) for p in sorted(paths) if only in f"{folder}/{p.stem}"]
        return run_jobs(jobs, side_by_side)


def part_tools(options) -> list[Case]:
    found = [p for p in (ROOT / "tests" / "tools").glob("*_test.*") if p.suffix in (".sh", ".py")]
    return run_scripts(found, "tools", options.only, PROCESSORS)


def part_e2e(options) -> list[Case]:
    found = [p for p in (ROOT / "tests" / "e2e").glob("*.*") if p.suffix in (".sh", ".py")]
    if not found:
        return []
    cases = build("release", ["fettle"])
    # One at a time: each uses every processor, and some of them measure.
    return cases + run_scripts(found, "e2e", options.only, 1)


def fuzz_targets() -> tuple[list[str], list[Case]]:
    """The targets that CMake knows, and a failed case for each source that it was not told of."""
    folder = ROOT / "tests" / "fuzz"
    listed = folder / "CMakeLists.txt"
    known = re.findall(r"^fettle_fuzz\((\w+)", listed.read_text(), re.MULTILINE) if listed.is_file() else []
    written = sorted(p.stem for p in folder.glob("*.cc") if p.stem != "replay_main")
    return known, [
        Case(
            f"fuzz/{name}",
            FAILED,
            f"tests/fuzz/{name}.cc has no fettle_fuzz line in tests/fuzz/CMakeLists.txt",
        )
        for name in written
        if name not in known
    ]


def fuzz_job(target: str, seconds: int) -> Job:
    build_fuzz = build_dir("fuzz")
    grown, crashes = build_fuzz / "corpus" / target, build_fuzz / "crashes"
    grown.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    corpus = ROOT / "tests" / "fuzz" / "corpus" / target
    command = [
        str(build_fuzz / f"fuzz_{target}"), f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
        "-print_final_stats=1", f"-artifact_prefix={crashes}/{target}-", str(grown),
    ]  # fmt: skip
    command += [str(corpus)] if corpus.is_dir() else []
    return Job(f"fuzz/{target}", command, read_exit, timeout_s=seconds + 120, cwd=build_fuzz)


def part_fuzz(options) -> list[Case]:
    known, forgotten = fuzz_targets()
    targets = [t for t in known if options.only in f"fuzz/{t}"]
    if not targets:
        return forgotten
    cases = forgotten + build("fuzz", [f"fuzz_{t}" for t in targets])
    return cases + run_jobs([fuzz_job(t, options.fuzz_seconds) for t in targets])


def part_tidy(_) -> list[Case]:
    check = lint.run_checks(ROOT)
    for note in check.notes or []:
        say(f"  {note}")
    return [Case(f"tidy: {check.name}", FAILED if check.problems else PASSED, "\n".join(check.problems))]


PARTS = {
    "checks": part_checks,
    "unit": part_unit,
    "tools": part_tools,
    "e2e": part_e2e,
    "fuzz": part_fuzz,
    "tidy": part_tidy,
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"which parts to run, of: {' '.join(PARTS)} (default: all)"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only programs whose PART/NAME contains TEXT"
    )
    parser.add_argument(
        "--preset", default="release", help="build whose unit tests to run: release, debug, asan, tsan"
    )
    parser.add_argument(
        "--fuzz-seconds", type=int, default=15, metavar="N", help="time for each fuzz target (default 15)"
    )
    options = parser.parse_args()
    unknown = [p for p in options.parts if p not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]}; the parts are {' '.join(PARTS)}")
    return options


def main() -> int:
    options = parse_options()
    cases: list[Case] = []
    times: list[str] = []
    for name, part in PARTS.items():
        if options.parts and name not in options.parts:
            continue
        say(f"== {name}")
        start = time.monotonic()
        cases += part(options)
        times.append(f"{name} {time.monotonic() - start:.0f} s")
    say(f"\ntime: {', '.join(times)}; logs: build/test-logs")
    say(summary(cases))
    return 1 if not cases or any(c.status == FAILED for c in cases) else 0


if __name__ == "__main__":
    # Being told to end is an interrupt too: what runs is killed, and nothing is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\ninterrupted")
        sys.exit(130)
