#!/usr/bin/env bash
# setup.sh [run|test]: makes sure that what fettle is built with (and, for `test`, tested with) is installed.
# Asks apt only for what is missing. FETTLE_NO_INSTALL=1: install nothing, only say what is missing.
set -euo pipefail
purpose=${1:-test}

# The one list: Debian package, needed for what, why.
packages() {
  cat <<'LIST'
cmake                 run   configures the build
ninja-build           run   runs the build
g++                   run   the compiler
pkg-config            run   lets cmake and cargo find libraries
ccache                run   remembers compiled files: a second build takes seconds
libfmt-dev            run   text formatting
nlohmann-json3-dev    run   JSON (base/json.h)
libcli11-dev          run   the command line (cli)
libtomlplusplus-dev   run   accelerator descriptions (target)
libssl-dev            run   SHA-256, signatures, TLS
libcurl4-openssl-dev  run   downloads (pull)
zlib1g-dev            run   wheels, which are zip files (pull)
libzstd-dev           run   compressed assets and logs
libeigen3-dev         run   linear algebra of calibration (quant, tune)
libgtest-dev          test  unit tests
libbenchmark-dev      test  benchmarks
clang-14              test  the second compiler, and libFuzzer
libclang-rt-14-dev    test  libFuzzer and the sanitizers
clang-tidy-14         test  the linter
clang-format-14       test  the one format
chromium              test  tests of the console
LIST
}

wanted() {
  packages | awk -v purpose="$purpose" '$2 == "run" || purpose == "test" { print $1 }'
  # `pull pip:...` runs the ordinary client; not every Python comes with it.
  python3 -c 'import pip' 2>/dev/null || echo python3-pip
}

missing() {
  local installed
  # dpkg-query fails when it does not know one of them, which is no failure here.
  # shellcheck disable=SC2046  # one word a package is meant
  installed=$({ dpkg-query -W -f '${db:Status-Status} ${Package}\n' $(wanted) 2>/dev/null || true; } |
    awk '$1 == "installed" { print $2 }')
  comm -23 <(wanted | sort) <(sort -u <<<"$installed")
}

explain() {  # explain PACKAGE...
  local name
  for name in "$@"; do
    packages | awk -v name="$name" \
      '$1 == name { $2 = ""; print "  " $0; found = 1 } END { if (!found) print "  " name }'
  done
}

refuse() {  # refuse REASON PACKAGE...
  local reason=$1
  shift
  {
    echo "fettle needs $# package(s) that are not installed:"
    explain "$@"
    echo "They cannot be installed from here: $reason."
    echo "Please run this once as an administrator, then try again:"
    echo "  apt-get update && apt-get install --no-install-recommends $*"
  } >&2
  exit 5
}

install() {  # install PACKAGE...
  local as_root=()
  if [[ ${FETTLE_NO_INSTALL:-} == 1 ]]; then
    refuse "FETTLE_NO_INSTALL is set" "$@"
  elif [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || refuse "this user is not root and there is no sudo" "$@"
    [[ -t 0 ]] || sudo -n true 2>/dev/null || refuse "sudo wants a password and there is no terminal" "$@"
    as_root=(sudo)
  fi
  echo "Installing $# missing package(s):" >&2
  explain "$@" >&2
  "${as_root[@]}" apt-get update -q >&2 || echo "apt-get update failed; trying with the lists at hand." >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >&2 ||
    refuse "apt-get install failed (see above)" "$@"
}

check_commands() {
  command -v python3 >/dev/null || {
    echo "fettle needs python3 (3.11 or newer): apt-get install python3" >&2
    exit 5
  }
  # rustup installs here, and a shell that was opened before does not know it yet.
  [[ -x ${HOME:-}/.cargo/bin/cargo ]] || command -v cargo >/dev/null || {
    echo "fettle needs Rust's cargo (the tokenizer library is Rust), and it is not on the PATH." >&2
    echo "Install it with rustup (see rustup.rs), or name its folder: PATH=\$PATH:/where/cargo/is $0" >&2
    exit 5
  }
}

check_commands
if ! command -v dpkg-query >/dev/null; then
  echo "This is not a Debian system; what fettle needs is expected to be there already:" >&2
  # shellcheck disable=SC2046
  explain $(wanted) >&2
  exit 0
fi
needed=$(missing)
# shellcheck disable=SC2086  # one word a package is meant
[[ -z $needed ]] || install $needed
