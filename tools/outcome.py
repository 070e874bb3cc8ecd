"""Test cases and how they are read from a program's output, counted and told."""

import re
from collections import Counter
from dataclasses import dataclass

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
TAIL_LINES = 40


@dataclass
class Case:
    name: str
    status: str
    detail: str = ""  # why it failed or was skipped


def tail(text: str, lines: int = TAIL_LINES) -> str:
    kept = text.rstrip().splitlines()
    left_out = len(kept) - lines
    return "\n".join(([f"... {left_out} lines before"] if left_out > 0 else []) + kept[-lines:])


GTEST_MARK = re.compile(r"\[( RUN      |       OK |  FAILED  |  SKIPPED )\] ([^\s,]+)")
GTEST_STATUS = {"       OK ": PASSED, "  FAILED  ": FAILED, "  SKIPPED ": SKIPPED}


def read_gtest(program: str, output: str, exit_status: int) -> list[Case]:
    """The cases of a GoogleTest program. A case that began and did not end is the one in which it crashed."""
    cases: list[Case] = []
    running, said = None, []
    for line in output.splitlines():
        mark = GTEST_MARK.search(line)
        if mark and mark[1] == " RUN      ":
            running, said = mark[2], []
        elif mark and running == mark[2]:
            # A case's output may end without a newline, just before the mark.
            said.append(line[: mark.start()])
            cases.append(gtest_case(f"{program}: {running}", GTEST_STATUS[mark[1]], said))
            running = None
        elif running:
            said.append(line)
    if running:
        cases.append(
            Case(f"{program}: {running}", FAILED, tail("\n".join(said)) + f"\n{how_it_ended(exit_status)}")
        )
    elif exit_status != 0 and not any(c.status == FAILED for c in cases):
        cases.append(Case(program, FAILED, f"{tail(output)}\n{how_it_ended(exit_status)}"))
    if not cases:
        cases.append(Case(program, FAILED, "no test case ran\n" + tail(output)))
    return cases


def gtest_case(name: str, status: str, said: list[str]) -> Case:
    text = "\n".join(said).strip()
    if status == SKIPPED:
        reason = [line for line in text.splitlines() if line.strip() and not line.endswith("Skipped")]
        return Case(name, status, reason[-1].strip() if reason else "no reason given")
    return Case(name, status, tail(text) if status == FAILED else "")


CASE_LINE = re.compile(r"^(ok|FAIL|skip) ([^:]+?)(?:: (.*))?$")


def read_lines(program: str, output: str, exit_status: int) -> list[Case]:
    """The cases of a script that prints lines of `ok`, `FAIL` and `skip` (tests/e2e/README.md)."""
    cases = []
    before: list[str] = []
    for line in output.splitlines():
        found = CASE_LINE.match(line)
        if not found:
            before.append(line)
            continue
        status = {"ok": PASSED, "FAIL": FAILED, "skip": SKIPPED}[found[1]]
        why = found[3] or ("" if status == PASSED else "no reason given")
        if status == FAILED:
            why = f"{why}\n{tail(chr(10).join(before))}".rstrip()
        cases.append(Case(f"{program}: {found[2]}", status, why))
        before = []
    if exit_status != 0 and not any(c.status == FAILED for c in cases):
        cases.append(Case(program, FAILED, f"{tail(output)}\n{how_it_ended(exit_status)}"))
    return cases or [Case(program, FAILED, "it reported no case\n" + tail(output))]


def read_exit(program: str, output: str, exit_status: int) -> list[Case]:
    """A program that is one case: its exit status says it."""
    if exit_status == 0:
        return [Case(program, PASSED)]
    return [Case(program, FAILED, f"{tail(output)}\n{how_it_ended(exit_status)}")]


TIMED_OUT = -1000


def how_it_ended(exit_status: int) -> str:
    if exit_status == TIMED_OUT:
        return "it ran out of time and was killed"
    return (
        f"it was killed by signal {-exit_status}"
        if exit_status < 0
        else f"it ended with exit status {exit_status}"
    )


def indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def counts(cases: list[Case]) -> str:
    of = Counter(c.status for c in cases)
    line = f"{of[PASSED]} passed, {of[FAILED]} failed"
    return line + (f", {of[SKIPPED]} skipped" if of[SKIPPED] else "")


def summary(cases: list[Case]) -> str:
    """Skips with their reasons, failures with the end of their output, and the closing line."""
    lines = [f"skipped  {c.name}: {c.detail}" for c in cases if c.status == SKIPPED]
    for case in cases:
        if case.status == FAILED:
            lines += ["", f"FAILED  {case.name}", indent(case.detail)]
    return "\n".join(lines + ["", counts(cases)])
