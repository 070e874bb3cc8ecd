#!/usr/bin/env python3
"""The packages as they are installed: what is inside, and that the program runs from there."""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helper"))
from cases import DATA, FETTLE, ROOT, SCRATCH, case, main  # noqa: E402

DOCUMENTS = "usr/share/doc/fettle"


def run(*command) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def made(pattern: str) -> Path:
    (found,) = (SCRATCH / "packages").glob(pattern)
    return found


def works(program: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(SCRATCH)}
    shown = subprocess.run([program, "--help"], check=True, capture_output=True, text=True, env=env).stdout
    assert "inspect" in shown, shown
    model = subprocess.run(
        [program, "inspect", DATA / "tiny-distill"], check=True, capture_output=True, text=True, env=env
    ).stdout
    assert "qwen2" in model and "3.3 M parameters" in model, model


@case
def packages_are_made():
    # The commands' own messages name the reason if this fails.
    subprocess.run([sys.executable, ROOT / "tools/package.py", FETTLE, SCRATCH / "packages"], check=True)
    run("dpkg-deb", "-x", made("*.deb"), SCRATCH / "root")
    run("tar", "-xf", made("*.tar.gz"), "-C", SCRATCH)


@case
def the_installed_program_runs():
    works(SCRATCH / "root/usr/bin/fettle")


@case
def the_unpacked_program_runs():
    (folder,) = SCRATCH.glob("fettle-*")
    works(folder / "usr/bin/fettle")


@case
def every_library_inside_has_its_licence():
    folder = SCRATCH / "root" / DOCUMENTS
    assert "Apache" in (folder / "LICENSE").read_text() and "Apache-2.0" in (folder / "copyright").read_text()
    crates = (folder / "licences/rust/LIST").read_text().splitlines()
    assert len(crates) > 20 and not [line for line in crates if "not stated" in line], crates
    without = [line for line in crates if not any((folder / "licences/rust" / line.split(":")[0]).rglob("*"))]
    assert not without, without
    assert list((folder / "licences/rust").glob("onig_sys-*/oniguruma/COPYING")), "the C library in a crate"
    for library in ("nlohmann-json3-dev", "libcli11-dev", "libfmt-dev"):
        assert (folder / "licences" / library).stat().st_size > 0


@case
def the_unit_fits_what_is_installed():
    unit = (SCRATCH / "root/lib/systemd/system/fettle.service").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    (settings,) = re.findall(r"^EnvironmentFile=(\S+)", unit, re.MULTILINE)
    assert os.access(SCRATCH / "root" / program.lstrip("/"), os.X_OK), program
    text = (SCRATCH / "root" / settings.lstrip("/")).read_text()
    for name in set(re.findall(r"\$(FETTLE_\w+)", unit)):
        assert f"{name}=" in text, name
    conffiles = run("dpkg-deb", "-I", made("*.deb"), "conffiles").split()
    assert conffiles == [settings], conffiles


@case
def nothing_names_this_machine():
    listed = run("dpkg-deb", "-c", made("*.deb"))
    owners = set(re.findall(r"^\S+\s+(\S+)", listed, re.MULTILINE))
    assert owners == {"root/root"}, owners
    named = subprocess.run(["grep", "-rlaF", str(ROOT), SCRATCH / "root"], capture_output=True, text=True).stdout
    assert not named, named


if __name__ == "__main__":
    main()
