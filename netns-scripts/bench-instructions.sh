#!/usr/bin/env bash
# Instructions per frame in `process`, counted by callgrind: unlike seconds, they come out the
# same on every run and on a busy machine.
#
#   netns-scripts/bench-instructions.sh [--profile SCENARIO]
#
# With --profile, also where they go: the 40 most expensive functions of one scenario. `new-flow-N` is
# `new-flow` with N rules in `policy`.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FRAMES=12800
bin=${CARGO_TARGET_DIR:-target}/release/instructions
command -v valgrind >/dev/null || {
  echo "bench-instructions: valgrind is missing: run netns-scripts/packages.sh bench-instructions" >&2
  exit 69
}
cargo build --quiet --release -p tapgate-benches --bin instructions
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# count SCENARIO FRAMES: instructions of the whole run.
count() {
  local scenario=$1 rules=0
  [[ $1 != new-flow-* ]] || scenario=new-flow rules=${1##*-}
  valgrind --tool=callgrind --callgrind-out-file="$work/$1.$2" "$bin" "$scenario" "$2" --rules "$rules" 2>&1 |
    sed -n 's/.*Collected : //p'
}

# per_frame SCENARIO: tenths of instructions. Two runs, so that setting up does not count.
per_frame() {
  local once twice
  once=$(count "$1" "$FRAMES")
  twice=$(count "$1" $((2 * FRAMES)))
  echo $(((twice - once) * 10 / FRAMES))
}

writing=$(per_frame write)
for scenario in established warm reply bulk new-flow new-flow-{10,1000,10000} miss guard malformed; do
  tenths=$(($(per_frame "$scenario") - writing))
  printf '%-14s %5d.%d instructions a frame\n' "$scenario" $((tenths / 10)) $((tenths % 10))
done
if [ "${1:-}" = --profile ]; then
  callgrind_annotate --inclusive=no "$work/$2.$((2 * FRAMES))" | sed -n '/^Ir/,$p' | head -n 44
fi
