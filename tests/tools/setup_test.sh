# tools/setup.sh asks apt only for what is missing, and says plainly what it needs when it may not install.
# dpkg-query, apt-get, id and sudo are replaced by small scripts, so nothing is installed here.
set -uo pipefail
source "$FETTLE_ROOT/tests/e2e/helper/cases.sh"

fake() {  # fake COMMAND BODY
  mkdir -p bin
  printf '#!/bin/bash\n%s\n' "$2" >"bin/$1"
  chmod +x "bin/$1"
}
setup() {
  PATH="$PWD/bin:$PATH" FETTLE_NO_INSTALL=${no_install:-} \
    bash "$FETTLE_ROOT/tools/setup.sh" "${1:-test}" </dev/null
}

everything='shift 3; for p; do echo "installed $p"; done'
all_but_two='shift 3; for p; do [[ $p == libfmt-dev || $p == chromium ]] || echo "installed $p"; done; exit 1'
fake apt-get 'echo "apt-get $*"'
fake id 'echo 0'
fake sudo 'exit 1'

fake dpkg-query "$everything"
expect_status "nothing missing, silent" 0 setup
expect_silence "nothing missing, apt is not asked"

fake dpkg-query "$all_but_two"
expect_status "missing, installs" 0 setup test
expect_text "missing, only what is not there" "install -qy --no-install-recommends chromium libfmt-dev"
expect_status "missing, tools of tests are not asked for by run" 0 setup run
expect_text "missing, run asks for less" "install -qy --no-install-recommends libfmt-dev"

fake id 'echo 1000'
expect_status "no rights, refused" 5 setup
expect_text "no rights, says why" "sudo wants a password"
expect_text "no rights, says what" "text formatting"
expect_text "no rights, says the command" "apt-get install --no-install-recommends chromium libfmt-dev"

fake id 'echo 0'
no_install=1 expect_status "told not to install, refused" 5 setup
fake apt-get 'exit 100'
expect_status "apt fails, refused" 5 setup
expect_text "apt fails, says so" "apt-get install failed"
