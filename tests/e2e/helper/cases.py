"""Test functions as cases, one line each, as ./test reads them (tests/e2e/README.md).

@case on a function makes it a case named like the function; main() runs them all. An AssertionError fails the
case, Skip skips it.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(os.environ.get("FETTLE_ROOT", Path(__file__).resolve().parents[3]))
FETTLE = os.environ.get("FETTLE", str(ROOT / "build" / "fettle"))
DATA = ROOT / "tests" / "data"


def scratch_folder() -> Path:
    """The folder that ./test gives; by itself a script makes one, so that it leaves nothing where it is run."""
    if given := os.environ.get("FETTLE_TMP"):
        return Path(given)
    own = tempfile.mkdtemp(prefix="fettle-test-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    os.environ["FETTLE_CACHE"] = str(Path(own) / "cache")
    return Path(own)


SCRATCH = scratch_folder()

_cases = []


class Skip(Exception):
    """Raised with the reason why a case cannot run here."""


def case(function):
    _cases.append(function)
    return function


def fettle(*arguments: str, status: int = 0, timeout_s: float = 300) -> subprocess.CompletedProcess:
    """Runs build/fettle; the case fails unless it ends with `status`."""
    done = subprocess.run([FETTLE, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s)
    if done.returncode != status:
        print(done.stdout + done.stderr)
        raise AssertionError(
            f"fettle {' '.join(map(str, arguments))}: exit status {done.returncode}, expected {status}"
        )
    return done


def run_case(function) -> bool:
    try:
        function()
    except Skip as reason:
        print(f"skip {function.__name__}: {reason}")
    except Exception as error:  # noqa: BLE001  a case may fail in any way, the others go on
        if not isinstance(error, AssertionError) or not str(error):
            traceback.print_exc(file=sys.stdout)
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        print(f"FAIL {function.__name__}: {first_line}")
        return False
    else:
        print(f"ok {function.__name__}")
    return True


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    results = [run_case(function) for function in _cases]
    sys.exit(0 if all(results) else 1)
