# shellcheck shell=bash # sourced by lab.sh
# Scenario: hostile           malformed frames from a guest and the provider, while pings go on; any DUT
# Run: netns-scripts/lab.sh run hostile [DUT=kernel]
recipe multi-mac

hostile() {
  local frames=20000 rate=5000 guest dataplane='' target pids=()
  need_tool hostile
  topology_up
  router_start
  # What conntrack calls invalid leaves the kernel untranslated, with its private address.
  [[ $dut != kernel ]] || inside router iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP
  guest_configure guest-a
  guest_configure guest-b
  pings guest-a && pings guest-b || fail "no connection before the test"
  [[ $dut == kernel ]] || dataplane=$(dataplane_pid)

  for guest in guest-a guest-b; do
    guest_run $guest "ping -q -c 500 -i 0.01 -W 2 $remote" >"$state/ping.$guest" &
    pids+=($!)
  done
  target=$(ip -n guest-a -j neighbour show "${gateway[guest-a]}" | jq -r '.[0].lladdr')
  say guest-a "sends $frames hostile frames to ${gateway[guest-a]}, $target"
  inside guest-a "$tools/hostile" tap-a 10.0.1.66 02:00:00:00:66:01 "${gateway[guest-a]}" "$target" \
    --count $frames --rate $rate --seed 1 >/dev/null &
  pids+=($!)
  say provider "sends $frames hostile frames to ${public[guest-a]}, ${mac[guest-a]}"
  inside provider "$tools/hostile" uplink 192.0.2.66 02:00:00:00:66:02 "${public[guest-a]}" "${mac[guest-a]}" \
    --count $frames --rate $rate --seed 2 >/dev/null &
  pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || fail "a sender failed"; done

  for guest in guest-a guest-b; do
    grep -q ' 0% packet loss' "$state/ping.$guest" || fail "$guest: $(tail -n 2 "$state/ping.$guest")"
    say $guest "$(sed -n 's/^\([0-9]* packets.*\)/\1/p' "$state/ping.$guest")"
  done
  if [[ $dut == tapgate ]]; then
    [[ $(dataplane_pid) == "$dataplane" ]] || fail "the dataplane did not survive"
    ! grep -q panicked "$state/tapgate.log" || fail "a panic: see the log"
    say router "alive; drops: $(tapgate_ask show drops --json |
      jq -r 'sort_by(-.frames) | map("\(.reason) \(.frames)") | .[:8] | join(", ")')"
  fi
  witness_check
  say provider "every frame wore an assigned MAC and address"
}

hostile
