# source "$FETTLE_ROOT/tests/e2e/helper/cases.sh": one line a case, as tests/e2e/README.md says.

pass() { echo "ok $1"; }
fail() { echo "FAIL $1: ${2:-no reason given}"; }
skip() { echo "skip $1: $2"; }

# expect_status NAME STATUS COMMAND...: the command ends with this exit status; what it printed is in $output.
expect_status() {
  local name=$1 wanted=$2 status=0
  shift 2
  output=$("$@" 2>&1) || status=$?
  if [[ $status == "$wanted" ]]; then
    pass "$name"
  else
    echo "$output"
    fail "$name" "exit status $status, expected $wanted, of: $*"
  fi
}

# expect_silence NAME: $output is empty.
expect_silence() { if [[ -z $output ]]; then pass "$1"; else fail "$1" "$output"; fi; }

# expect_text NAME TEXT: $output holds this.
expect_text() {
  if [[ $output == *"$2"* ]]; then
    pass "$1"
  else
    echo "$output"
    fail "$1" "the output lacks: $2"
  fi
}
