#!/usr/bin/env python3
"""package.py PROGRAM OUT: OUT/fettle_VERSION_ARCH.deb and OUT/fettle-VERSION-ARCH.tar.gz.

Both hold the program, the accelerators (targets/), the documents, the licences of every library inside the
program, and the systemd unit. The same commit gives the same bytes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = "usr/share/doc/fettle"
# Header-only or static libraries: their code is in the program, so their licences must travel with it.
LICENCE_NAME = r"(?i)(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?"
BUILT_IN = ["nlohmann-json3-dev", "libcli11-dev", "libtomlplusplus-dev", "libeigen3-dev", "libfmt-dev"]


def output_of(*command: str, cwd: Path = ROOT) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout.strip()


def version() -> str:
    found = re.search(r"project\(fettle VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())
    if not found:
        sys.exit("CMakeLists.txt: no `project(fettle VERSION x.y.z`: the package has no version")
    return found[1]


def source_date() -> int:
    """The time of the commit, which all packed files get; 2026 began when there is none."""
    done = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True)
    return int(os.environ.get("SOURCE_DATE_EPOCH") or done.stdout.strip() or 1767225600)


def package_of(library: str) -> str | None:
    """The Debian package that owns a shared library; since merged /usr, under either of two names."""
    for name in (library, os.path.realpath(library), os.path.realpath(library).removeprefix("/usr")):
        done = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    return None


def dependencies(program: Path) -> str:
    """The packages of the libraries that the program itself names, each at least as new as here."""
    needed = set(re.findall(r"NEEDED\s+(\S+)", output_of("objdump", "-p", str(program))))
    paths = dict(re.findall(r"(\S+) => (/\S+)", output_of("ldd", str(program))))
    packages = {package_of(paths[name]) for name in needed if name in paths} - {None}
    if not packages:
        sys.exit(f"{program}: no package owns any of the libraries it needs ({', '.join(sorted(needed))})")
    versions = {p: output_of("dpkg-query", "-W", "-f", "${Version}", p) for p in packages}
    # Major and minor are what an interface changes with; the rest are corrections.
    major_minor = re.compile(r"(?:\d+:)?\d+(?:\.\d+)?")
    return ", ".join(f"{p} (>= {major_minor.match(v)[0]})" for p, v in sorted(versions.items()))


def copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def copy_crate_licences(folder: Path) -> None:
    manifest = ROOT / "native" / "text" / "Cargo.toml"
    if not manifest.is_file():
        return
    arch = re.search(r"host: (\S+)", output_of("rustc", "-vV"))[1]
    listed = output_of(
        "cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", arch,
        "--manifest-path", str(manifest),
    )  # fmt: skip
    lines = []
    for crate in sorted(json.loads(listed)["packages"], key=lambda c: (c["name"], c["version"])):
        if crate["source"] is None:
            continue
        name = f"{crate['name']}-{crate['version']}"
        lines.append(f"{name}: {crate['license'] or crate['license_file'] or 'not stated'}")
        # Deeper ones belong to what a crate brings along, as onig_sys does the C library Oniguruma.
        root = Path(crate["manifest_path"]).parent
        for text in sorted(p for p in root.rglob("*") if p.is_file()):
            if re.fullmatch(LICENCE_NAME, text.name):
                copy(text, folder / "rust" / name / text.relative_to(root))
    standard_library = Path(output_of("rustc", "--print", "sysroot")) / "share/doc/rust"
    for text in [*standard_library.glob("COPYRIGHT-library*"), *standard_library.glob("licenses/*")]:
        copy(text, folder / "rust" / "standard-library" / text.name)
    (folder / "rust").mkdir(parents=True, exist_ok=True)
    (folder / "rust" / "LIST").write_text("\n".join(lines) + "\n")


def copy_licences(folder: Path) -> None:
    for package in BUILT_IN:
        text = Path("/usr/share/doc") / package / "copyright"
        if not text.is_file():
            sys.exit(
                f"{text}: missing, but {package} is part of the program; reinstall it with its documents"
            )
        copy(text, folder / package)
    copy_crate_licences(folder)


def stage(program: Path, folder: Path) -> None:
    """The tree as it is installed."""
    copy(program, folder / "usr/bin/fettle", 0o755)
    subprocess.run(["strip", "--strip-unneeded", folder / "usr/bin/fettle"], check=True)
    for target in sorted((ROOT / "targets").glob("*.toml")):
        copy(target, folder / "usr/share/fettle/targets" / target.name)
    for name in ("README.md", "LICENSE"):
        copy(ROOT / name, folder / DOCUMENTS / name)
    for page in sorted((ROOT / "docs").glob("*.md")):
        copy(page, folder / DOCUMENTS / "docs" / page.name)
    copy(ROOT / "packaging/copyright", folder / DOCUMENTS / "copyright")
    copy_licences(folder / DOCUMENTS / "licences")
    copy(ROOT / "packaging/fettle.service", folder / "lib/systemd/system/fettle.service")
    copy(ROOT / "packaging/fettle.default", folder / "etc/default/fettle")


def set_times(folder: Path, seconds: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (seconds, seconds))


def make_deb(staged: Path, program: Path, out: Path) -> Path:
    architecture = output_of("dpkg", "--print-architecture")
    values = {
        "VERSION": version(),
        "ARCHITECTURE": architecture,
        "INSTALLED_KB": str(sum(p.stat().st_size for p in staged.rglob("*") if p.is_file()) // 1024 + 1),
        "DEPENDS": dependencies(program),
    }
    text = (ROOT / "packaging/control.in").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    (staged / "DEBIAN").mkdir()
    (staged / "DEBIAN/control").write_text(text)
    copy(ROOT / "packaging/conffiles", staged / "DEBIAN/conffiles")
    copy(ROOT / "packaging/postinst", staged / "DEBIAN/postinst", 0o755)
    set_times(staged, source_date())
    deb = out / f"fettle_{version()}_{architecture}.deb"
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(source_date())}
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", staged, deb], check=True, env=env, stdout=sys.stderr
    )
    return deb


def make_tar(staged: Path, out: Path) -> Path:
    name = f"fettle-{version()}-{output_of('uname', '-m')}"
    tar = out / f"{name}.tar.gz"
    command = [
        "tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", f"--mtime=@{source_date()}",
        f"--transform=s,^\\./,{name}/,", "--exclude=./DEBIAN", "-C", staged, "-cf", "-", ".",
    ]  # fmt: skip
    packed = subprocess.run(command, check=True, capture_output=True).stdout
    tar.write_bytes(subprocess.run(["gzip", "-9n"], check=True, input=packed, capture_output=True).stdout)
    return tar


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    staged = out / "tree"
    shutil.rmtree(staged, ignore_errors=True)
    os.umask(0o022)
    stage(program, staged)
    for made in (make_deb(staged, program, out), make_tar(staged, out)):
        print(made.relative_to(ROOT) if made.is_relative_to(ROOT) else made)


if __name__ == "__main__":
    main()
