# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: saved             what the kernel's router of a recipe says of itself, imported and checked; DUT=kernel
# The commands that `tapgate import kernel --help` names save it into SAVED (default: nowhere that lasts).
# Run: RECIPE=multi-mac SAVED=/tmp/saved netns-scripts/lab.sh run saved DUT=kernel

recipe "${RECIPE:-multi-mac}"

saved() {
  [[ $dut == kernel ]] || fail "DUT=kernel is what is saved"
  local directory=${SAVED:-$state/saved} commands guest target status=0
  topology_up
  router_start
  # So that the kernel has heard of guests.
  for guest in "${guests[@]}"; do
    [[ ${kind[$guest]} != VM ]] || continue
    guest_configure "$guest"
    for target in "$remote" ${remote6-}; do
      guest_run "$guest" "ping -q -c 1 -W 2 $target" >/dev/null || fail "$guest does not reach $target"
    done
  done
  tapgate_copy
  commands=$("$tapgate" import kernel --help | sed -n '/^mkdir/,$p')
  [[ $commands == *"ip -j rule"* ]] || fail "import kernel --help names no commands"
  mkdir -p "${directory%/*}"
  (cd "${directory%/*}" && inside router bash -c "${commands//saved/${directory##*/}}") || fail "a command of --help failed"
  say router "$(find "$directory" -type f | wc -l) files are saved in $directory"
  (cd "${directory%/*}" && "$tapgate" import kernel "${directory##*/}") >"$state/imported.toml" 2>"$state/told" || status=$?
  ((status <= 1)) || fail "import kernel: $(cat "$state/told")"
  inside router "$tapgate" check "$state/imported.toml" >"$state/checked" 2>&1 || fail "$(cat "$state/checked")"
  say router "$(cat "$state/checked")"
  cat "$state/told"
}

# shellcheck source=tapgate-router.sh
source "$here/tapgate-router.sh"
# shellcheck source=kernel-router.sh
source "$here/kernel-router.sh"
saved
