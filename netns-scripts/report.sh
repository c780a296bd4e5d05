#!/usr/bin/env bash
# What a scenario says while it works and how it fails. Sourced; used by netns-scripts/lab.sh.
# Run: netns-scripts/lab.sh run multi-mac

if [[ -t 1 ]]; then
  on_terminal=1 bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  on_terminal='' bold='' green='' red='' plain=''
fi
started=$EPOCHREALTIME
failed=''

# begin WHO WHAT: shows on a terminal what is being done, with a clock, until `say` or `fail`.
begin() {
  [[ $on_terminal ]] || return 0
  end_clock
  (
    while :; do
      printf '\r\e[K%6.1f s  %-9s %s ...' "$(elapsed)" "$1" "$2"
      sleep 0.2
    done
  ) &
  clock=$!
}

# say WHO WHAT: one line of progress, with the seconds since the start.
say() {
  end_clock
  printf '%6.1f s  %-9s %s\n' "$(elapsed)" "$1" "$2"
}

# fail WHAT: ends the scenario, showing the router's state.
fail() {
  end_clock
  failed=yes
  printf '%s%s%s\n' "$red" "FAILED: $1" "$plain" >&2
  exit 1
}

elapsed() {
  seconds_since "$started"
}

# seconds_since EPOCHREALTIME: with one digit.
seconds_since() {
  local us=$((${EPOCHREALTIME/./} - ${1/./}))
  printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

end_clock() {
  [[ ${clock-} ]] || return 0
  kill "$clock" 2>/dev/null || true
  wait "$clock" 2>/dev/null || true
  clock=''
  printf '\r\e[K'
}

# The end of a scenario, good or bad.
on_exit() {
  trap - EXIT
  end_clock
  (($1 == 0)) && return
  [[ $failed ]] || echo "${red}FAILED: a command ended with $1${plain}" >&2
  {
    echo "=== the router's state, DUT=$dut"
    router_state
    echo "=== the provider's witness"
    for set in {ip,ip6,arp}-{pairs,faults} others resets; do echo "--- $set" && witness_seen "$set"; done
  } >&2 2>&1
}
