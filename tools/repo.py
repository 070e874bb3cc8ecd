"""What the checking scripts share: where the checkout is, which files it holds, how a check reports."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CPP_SUFFIXES = {".cc", ".h", ".inc"}
NOT_OURS = {"build", "target", "node_modules", "__pycache__"}


@dataclass
class Check:
    """One check: what it is called and what it found (nothing: it passed)."""

    name: str
    problems: list[str]
    notes: list[str] | None = None


def root_of(argument: str | None = None) -> Path:
    return Path(argument).resolve() if argument else Path(__file__).resolve().parent.parent


def files(root: Path, tracked_only: bool = False) -> list[Path]:
    """Every file of the checkout that git would keep (or keeps); without git, every file outside of build folders."""
    which = "-zc" if tracked_only else "-zco"
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", which, "--exclude-standard"], capture_output=True
    )
    if listed.returncode == 0 and listed.stdout:
        found = [root / name for name in listed.stdout.decode().split("\0") if name]
        return sorted(p for p in set(found) if p.is_file() and not p.is_symlink())
    return sorted(
        p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and is_ours(p.relative_to(root))
    )


def is_ours(path: Path) -> bool:
    return not any(
        part in NOT_OURS or part.startswith(("build-", ".git", ".cache")) for part in path.parts[:-1]
    )


def cpp_sources(root: Path, *folders: str) -> list[Path]:
    folders = folders or ("src", "tests", "bench", "native")
    return [p for p in files(root) if p.suffix in CPP_SUFFIXES and p.relative_to(root).parts[0] in folders]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def report(checks: list[Check]) -> int:
    """Prints a check a line, with what it found; the exit status."""
    for check in checks:
        for note in check.notes or []:
            print(f"note {note}")
        print(f"{'FAIL' if check.problems else 'ok  '} {check.name}")
        for problem in check.problems:
            print(f"  {problem}")
    return 1 if any(check.problems for check in checks) else 0


def main(run_checks) -> None:
    sys.exit(report(run_checks(root_of(sys.argv[1] if len(sys.argv) > 1 else None))))
