"""The counting of ./test: each form of output gives the cases it holds, and nothing that fails is lost."""

import sys
from pathlib import Path

from cases import ROOT, SCRATCH, case, main

sys.path.insert(0, str(ROOT / "tools"))
import jobs  # noqa: E402
import outcome  # noqa: E402

GTEST = """[==========] Running 3 tests from 1 test suite.
[ RUN      ] A.Good
half a line[       OK ] A.Good (0 ms)
[ RUN      ] A.Bad
a_test.cc:7: Failure
Expected equality
[  FAILED  ] A.Bad, where GetParam() = 3 (0 ms)
[ RUN      ] A.Skipped
a_test.cc:9: Skipped
no such device
[  SKIPPED ] A.Skipped (0 ms)
[  PASSED  ] 1 test.
[  FAILED  ] 1 test, listed below:
[  FAILED  ] A.Bad, where GetParam() = 3
"""


def statuses(cases) -> list[str]:
    return [c.status for c in cases]


@case
def gtest_cases_are_counted_once():
    cases = outcome.read_gtest("a", GTEST, 1)
    assert statuses(cases) == ["passed", "failed", "skipped"], cases
    assert "Expected equality" in cases[1].detail
    assert cases[2].detail == "no such device"
    assert outcome.counts(cases) == "1 passed, 1 failed, 1 skipped"


@case
def gtest_crash_fails_the_running_case():
    cases = outcome.read_gtest("a", GTEST.split("[  FAILED  ]")[0], -11)
    assert [(c.name, c.status) for c in cases] == [("a: A.Good", "passed"), ("a: A.Bad", "failed")], cases
    assert "signal 11" in cases[1].detail


@case
def gtest_without_cases_fails():
    assert statuses(outcome.read_gtest("a", "[==========] Running 0 tests\n", 0)) == ["failed"]
    assert statuses(
        outcome.read_gtest("a", "leak found\n[ RUN      ] A.B\n[       OK ] A.B (0 ms)\n", 23)
    ) == ["passed", "failed"]


@case
def script_lines_are_read():
    cases = outcome.read_lines(
        "e", "ok first case\nnoise\nFAIL second: it broke: badly\nskip third: no browser\n", 1
    )
    assert statuses(cases) == ["passed", "failed", "skipped"], cases
    assert cases[1].detail == "it broke: badly\nnoise" and cases[2].detail == "no browser"


@case
def silent_scripts_fail():
    assert statuses(outcome.read_lines("e", "hello\n", 0)) == ["failed"]
    assert statuses(outcome.read_lines("e", "ok one\n", 3)) == ["passed", "failed"]


@case
def closing_line_is_exact():
    ok, bad = outcome.Case("a", outcome.PASSED), outcome.Case("b", outcome.FAILED, "why")
    assert outcome.summary([ok, ok]).splitlines()[-1] == "2 passed, 0 failed"
    assert outcome.summary([ok, bad]).splitlines()[-1] == "1 passed, 1 failed"
    assert "FAILED  b\n    why" in outcome.summary([ok, bad])


def run_shell(script: str, timeout_s: float = 60) -> jobs.Done:
    job = jobs.Job("j", ["bash", "-c", script], outcome.read_exit, timeout_s=timeout_s)
    return jobs.run(job, Path(SCRATCH) / "j.log")


@case
def time_limits_hold():
    done = run_shell("echo begun; sleep 600", timeout_s=0.5)
    assert statuses(done.cases) == ["failed"] and "ran out of time" in done.cases[0].detail
    assert "begun" in done.cases[0].detail


@case
def what_a_test_leaves_running_is_killed():
    done = run_shell("sleep 600 & echo $!")
    child = Path(f"/proc/{done.output.strip()}/stat")
    for _ in range(1000):
        if not child.exists() or child.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
    raise AssertionError("the child of an ended test still runs")


main()
