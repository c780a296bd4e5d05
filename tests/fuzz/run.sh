#!/usr/bin/env bash
# Coverage-guided fuzzing, each target in turn. Needs a C++ compiler for libFuzzer, and no nightly
# toolchain: the engine has no unsafe code, so that coverage is asked of the compiler, a sanitizer not.
#   tests/fuzz/run.sh SECONDS [TARGET...]   every target, or those, for so long each
#   tests/fuzz/run.sh minimise [TARGET...]  take over what was found into tests/fuzz/corpus, as few and short as say the same
# What is found grows in .lab/fuzz; what fails is in tests/fuzz/artifacts, and `cargo test -p
# tapgate-fuzz` replays it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PWD/.lab/tools/bin:$PATH
# The coverage passes are the stable compiler's; cargo-fuzz asks for some that are not.
export RUSTC_BOOTSTRAP=1
# A build of its own, so that it does not undo the other.
export CARGO_TARGET_DIR=$PWD/.lab/fuzz/target
most=4096 # bytes of an input

command -v c++ >/dev/null || {
  echo "run.sh: libFuzzer needs a C++ compiler: apt-get install g++" >&2
  exit 69
}
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "Making cargo-fuzz in .lab/tools (a minute or two, once)"
  env -u CARGO_TARGET_DIR -u RUSTC_BOOTSTRAP cargo install --quiet --locked --debug --root .lab/tools cargo-fuzz
fi

main() {
  local what=${1-} target targets=("${@:2}") failed=()
  ((${#targets[@]})) || targets=(frames sessions control file)
  for target in "${targets[@]}"; do
    mkdir -p ".lab/fuzz/$target" "tests/fuzz/corpus/$target" "tests/fuzz/artifacts/$target"
    if [[ $what == minimise ]]; then
      minimise "$target"
    else
      fuzz "$target" "$what" || failed+=("$target")
    fi
  done
  ((${#failed[@]} == 0)) || {
    echo "run.sh: ${failed[*]} failed. What failed is in tests/fuzz/artifacts, and fails again, with all that" >&2
    echo "there is to know, in: cargo test -p tapgate-fuzz" >&2
    exit 1
  }
}

# fuzzer SUBCOMMAND TARGET FOLDERS... -- OPTIONS...
fuzzer() {
  local subcommand=$1 target=$2
  shift 2
  cargo fuzz "$subcommand" --fuzz-dir tests/fuzz --features libfuzzer --sanitizer none "fuzz-$target" "$@"
}

# fuzz TARGET SECONDS
fuzz() {
  echo "fuzzing $1 for $2 s"
  fuzzer run "$1" ".lab/fuzz/$1" "tests/fuzz/corpus/$1" -- \
    -max_total_time="$2" -max_len=$most -timeout=20 -print_final_stats=1 \
    -artifact_prefix="tests/fuzz/artifacts/$1/"
}

# minimise TARGET: of all that was found and was there, few that together reach the same code.
minimise() {
  local before after
  before=$(find "tests/fuzz/corpus/$1" ".lab/fuzz/$1" -type f | wc -l)
  rm -rf ".lab/fuzz/$1.least" && mkdir ".lab/fuzz/$1.least"
  fuzzer run "$1" ".lab/fuzz/$1.least" ".lab/fuzz/$1" "tests/fuzz/corpus/$1" -- \
    -set_cover_merge=1 -use_counters=0 -max_len=$most 2>/dev/null
  rm -rf "tests/fuzz/corpus/$1" && mv ".lab/fuzz/$1.least" "tests/fuzz/corpus/$1"
  after=$(find "tests/fuzz/corpus/$1" -type f | wc -l)
  echo "$1: $after inputs of $before, $(du -bs "tests/fuzz/corpus/$1" | cut -f 1) bytes"
}

[[ ${1-} =~ ^([0-9]+|minimise)$ ]] || {
  sed -n '4,5s/^# */  /p' "${BASH_SOURCE[0]}" >&2
  exit 64
}
main "$@"
