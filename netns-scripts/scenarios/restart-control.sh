# shellcheck shell=bash # sourced by lab.sh
# Scenario: restart-control   kill -9 of control, and a new one: not one packet of a running flow is lost
# Run: netns-scripts/lab.sh run restart-control
recipe multi-mac

topology_up
router_start
guest_configure guest-a
guest_configure guest-b
retransmit_losses_only
flows_serve
pings guest-a && pings guest-b || fail "no connection before the test"

declare -A before
for guest in guest-a guest-b remote; do before[$guest]=$(retransmits $guest); done
for guest in guest-a guest-b; do
  flow_start $guest echo 5 1000
  flow_start $guest upload 5 50
  flow_start $guest download 5 50
done
sleep 1

dataplane=$(dataplane_pid)
disown "$control_pid" # bash need not announce its death
kill -KILL "$control_pid"
say router "control killed"
sleep 1
tapgate_start
tapgate_ask show ports >/dev/null || fail "the new control's dataplane does not answer"
[[ $(dataplane_pid) == "$dataplane" ]] || fail "the dataplane was $dataplane and is now $(dataplane_pid)"
say router "a new control runs, with the same dataplane ($dataplane)"

for guest in guest-a guest-b; do
  flow_end $guest echo
  ((lost == 0)) || fail "$guest lost $lost of $((received + lost)) datagrams"
  say $guest "$received datagrams there and back, none lost, longest gap $gap_ms ms"
  for kind in upload download; do
    flow_end $guest $kind
    say $guest "$kind: $((received / 1000000)) MB, longest gap $gap_ms ms"
  done
done
for guest in guest-a guest-b remote; do
  again=$(($(retransmits $guest) - before[$guest]))
  ((again == 0)) || fail "$guest retransmitted $again segments"
done
say remote "no TCP segment was retransmitted, by anyone"
witness_check
