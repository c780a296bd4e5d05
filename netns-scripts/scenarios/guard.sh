# shellcheck shell=bash # sourced by lab.sh
# Scenario: guard             a guest without a SNAT rule never gets a frame out of the uplink; any DUT
# The kernel has no such guard: with DUT=kernel the frames must leave, and the witness must see them.
# Run: netns-scripts/lab.sh run guard [DUT=kernel]
recipe multi-mac

guard() {
  topology_up
  if [[ $dut == tapgate ]]; then
    sed 's/{ from = "10.0.2.0\/24", to = "203.0.113.20" }, //' "$configuration" >"$state/guard.toml"
    ! cmp -s "$configuration" "$state/guard.toml" || fail "guest-b still has its SNAT rule"
    configuration=$state/guard.toml
  fi
  router_start
  [[ $dut != kernel ]] ||
    inside router iptables -t nat -D POSTROUTING -s 10.0.2.0/24 -o B -j SNAT --to-source 203.0.113.20
  guest_configure guest-a
  guest_configure guest-b
  pings guest-a || fail "guest-a, which has a SNAT rule, is not connected"

  # Of every protocol: an echo, a datagram, a TCP connection.
  guest_run guest-b "ping -q -c 5 -i 0.1 -W 1 $remote; echo x | nc -u -w 1 $remote 9; nc -w 1 $remote 80" \
    >/dev/null 2>&1 || true
  local faults
  faults=$(witness_faults)
  if [[ $dut == kernel ]]; then
    [[ $faults == *"IP from 10.0.2.1 wears ${mac[guest-b]}"* ]] ||
      fail "the kernel let no frame of guest-b out, or the witness missed it: ${faults:-nothing}"
    say provider "seen, as must be: $faults"
    return
  fi
  witness_check
  say provider "saw no frame of guest-b"
  tapgate_ask show drops --json | jq -e 'any(.[]; .reason == "egress-guard" and .frames >= 5)' >/dev/null ||
    fail "the drops are not counted as egress-guard"
  say router "counted: $(tapgate_ask show drops --json | jq -r '.[] | select(.reason == "egress-guard") | .frames') frames"
  pings guest-a || fail "guest-a is not connected any more"
}

guard
