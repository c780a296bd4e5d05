# shellcheck shell=bash # sourced by lab.sh
# Scenario: standstill        the dataplane stands still: control notices, another takes over, running flows go on
# Run: netns-scripts/lab.sh run standstill
recipe multi-mac

topology_up
router_start
guest_configure guest-a
guest_configure guest-b
flows_serve
pings guest-a && pings guest-b || fail "no connection before the test"

for guest in guest-a guest-b; do flow_start $guest download 15 50; done
index=$(ip -n guest-a -o link show "${device[guest-a]}" | cut -d : -f 1)
sleep 1
dataplane=$(dataplane_pid)
kill -STOP "$dataplane"
say router "the dataplane ($dataplane) stopped"

for guest in guest-a guest-b; do
  flow_end $guest download
  say $guest "download: $((received / 1000000)) MB, longest gap $gap_ms ms"
  ((gap_ms < 10000)) || fail "$guest's download resumed only after $gap_ms ms"
done
[[ $(dataplane_pid) != "$dataplane" ]] || fail "the dataplane was not replaced"
[[ $(ip -n guest-a -o link show "${device[guest-a]}" | cut -d : -f 1) == "$index" ]] ||
  fail "guest-a lost its NIC"
[[ $(tapgate_ask status --json | jq -c '[.lost, .stood_still]') == '[1,1]' ]] ||
  fail "not counted: $(tapgate_ask status --json)"
say router "$(tapgate_ask status | sed -n 's/^dataplane *//p')"
witness_check
