# shellcheck shell=bash # sourced by lab.sh
# Scenario: restart-dataplane kill -9 of the dataplane: running flows go on in under 1 s
# Uploads and downloads through SNAT, from a guest on a tap port and one on a veth.
# Run: netns-scripts/lab.sh run restart-dataplane
recipe multi-mac

topology_up
router_start
guest_configure guest-a
guest_configure guest-b
flows_serve
pings guest-a && pings guest-b || fail "no connection before the test"

for guest in guest-a guest-b; do
  flow_start $guest echo 5 1000
  flow_start $guest upload 5 50
  flow_start $guest download 5 50
done
sleep 1.5

dataplane=$(dataplane_pid)
kill -KILL "$dataplane"
say router "the dataplane ($dataplane) killed"

for guest in guest-a guest-b; do
  flow_end $guest echo
  say $guest "echo: $lost of $((received + lost)) datagrams lost, longest gap $gap_ms ms"
  ((gap_ms < 1000)) || fail "$guest's datagrams came back only after $gap_ms ms"
  for kind in upload download; do
    flow_end $guest $kind
    say $guest "$kind: $((received / 1000000)) MB, longest gap $gap_ms ms"
    ((gap_ms < 1000)) || fail "$guest's $kind resumed only after $gap_ms ms"
  done
done
[[ $(dataplane_pid) != "$dataplane" ]] || fail "the dataplane was not killed"
kill -0 "$control_pid" || fail "control ended with its dataplane"
tapgate_ask show ports >/dev/null || fail "the new dataplane does not answer"
witness_check
