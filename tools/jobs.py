"""Runs programs side by side, each in its own process group with a time limit and its output in a file."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import outcome

MAX_OUTPUT = 4_000_000  # characters of a log that are read back


@dataclass
class Job:
    name: str
    command: list[str]
    read: Callable[[str, str, int], list[outcome.Case]] = outcome.read_exit
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 1200
    cwd: Path | None = None


@dataclass
class Done:
    job: Job
    cases: list[outcome.Case]
    output: str
    seconds: float


running: set[int] = set()
running_lock = threading.Lock()


def kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(job: Job, log: Path) -> Done:
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        try:
            child = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=job.cwd,
                env={**os.environ, **job.env}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Done(job, [outcome.Case(job.name, outcome.FAILED, str(error))], str(error), 0)
        with running_lock:
            running.add(child.pid)
        try:
            status = child.wait(job.timeout_s)
        except subprocess.TimeoutExpired:
            status = outcome.TIMED_OUT
        kill_group(child.pid)  # also whatever it left behind, such as a server
        child.wait()
        with running_lock:
            running.discard(child.pid)
    with log.open(encoding="utf-8", errors="replace") as text:
        output = text.read(MAX_OUTPUT)
    return Done(job, job.read(job.name, output, status), output, time.monotonic() - start)


def run_all(jobs: list[Job], logs: Path, side_by_side: int, tell: Callable[[Done], None]) -> list[Done]:
    """Runs all jobs and tells of each as it ends. An interrupt ends those that run and starts no other."""
    done: list[Done] = []
    with ThreadPoolExecutor(max_workers=side_by_side) as pool:
        futures = [pool.submit(run, job, logs / (job.name.replace("/", "-") + ".log")) for job in jobs]
        try:
            for future in as_completed(futures):
                done.append(future.result())
                tell(done[-1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with running_lock:
                for leader in running:
                    kill_group(leader)
            raise
    return done
