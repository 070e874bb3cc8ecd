# ./run with a program that only notes what it was asked: the steps, the spare model, second runs, passing on.
set -uo pipefail
source "$FETTLE_ROOT/tests/e2e/helper/cases.sh"

mkdir -p tools build
cp "$FETTLE_ROOT/run" run
printf '#!/bin/bash\necho "setup $*"\n' >tools/setup.sh
printf '#!/bin/bash\necho "dev $*"\n' >dev
cat >build/fettle <<'FAKE'
#!/bin/bash
echo "$PWD: $*" >>"$NOTES"
case $1 in
  pull) [[ ${NO_NETWORK:-} == 1 ]] && exit 5; echo '{"path": "/cache/the model.gguf"}' ;;
  fit) echo fitting; mkdir -p "${@: -1}"; exit "${FIT_STATUS:-0}" ;;
  show) [[ -d $3 ]] && echo "certificate of $3" ;;
  run) echo "Paris." ;;
esac
FAKE
chmod +x run dev tools/setup.sh build/fettle
export NOTES=$PWD/notes

expect_status "first run" 0 ./run
expect_text "first run shows the certificate" "certificate of .cache/smollm2-local.fettle"
expect_text "first run shows an answer" "Paris."
expect_text "first run says what is next" "What to try next"
output=$(cat notes)
expect_text "the pulled model is fitted" "fit /cache/the model.gguf --target local -o .cache/smollm2"

: >notes
expect_status "second run" 0 ./run
output=$(grep ': fit' notes)
expect_silence "second run does not fit again"

: >notes
NO_NETWORK=1 expect_status "without a network" 0 ./run
output=$(cat notes)
expect_text "without a network the spare model is fitted" "fit tests/data/tiny-distill --target local"

rm -rf .cache
FIT_STATUS=1 expect_status "a certificate that says no is shown" 0 ./run
rm -rf .cache
FIT_STATUS=5 expect_status "a fit that fails ends it with its status" 5 ./run

: >notes
mkdir elsewhere
output=$(cd elsewhere && ../run tokenize m --text "a b" 2>/dev/null)
expect_silence "passing on keeps standard output clean"
output=$(cat notes)
expect_text "passing on keeps folder and arguments" "elsewhere: tokenize m --text a b"
