# shellcheck shell=bash # sourced by lab.sh
# Scenario: rights            what the processes may do: control nothing, the dataplane two things as a user of its own
# Run: netns-scripts/lab.sh run rights
recipe multi-mac

# may PROCESS NAME: its user, its capabilities (permitted, effective, bounding) and no_new_privs.
may() {
  awk '/^Uid:/ { uid = $2 "," $3 "," $4 } /^Cap(Prm|Eff|Bnd):/ { caps = caps " " $2 } /^NoNewPrivs:/ { nnp = $2 }
    END { print uid caps " " nnp }' "/proc/$1/status"
}

rights() {
  local nothing=0000000000000000 two=0000000000003000 nobody launcher said dataplane
  nobody=$(id -u nobody)
  topology_up
  router_start
  guest_configure guest-a
  guest_configure guest-b
  pings guest-a && pings guest-b || fail "no connection"

  said=$(may "$control_pid")
  [[ $said == "0,0,0 $nothing $nothing $nothing 1" ]] || fail "control: $said"
  say router "control: no capability"
  launcher=$(pgrep -P "$control_pid")
  said=$(may "$launcher")
  [[ $said == "$nobody,$nobody,$nobody $two $nothing $two 1" ]] || fail "the launcher: $said"
  dataplane=$(dataplane_pid)
  said=$(may "$dataplane")
  [[ $said == "$nobody,$nobody,$nobody $two $two $two 1" ]] || fail "the dataplane: $said"
  say router "the dataplane: user $nobody, CAP_NET_ADMIN and CAP_NET_RAW"

  # Which control can end all the same, although it is another user's.
  kill -STOP "$dataplane"
  tapgate_ask stop || fail "tapgate stop failed"
  ! kill -0 "$dataplane" 2>/dev/null || fail "a dataplane that hangs was not ended"
  wait "$control_pid" || fail "tapgate ended with status $?"

  mkdir -m 700 "$state/foreign"
  chown nobody "$state/foreign"
  ! said=$(inside router "$tapgate" run "$configuration" --runtime-dir "$state/foreign" --user nobody 2>&1) ||
    fail "it runs in a directory of somebody else"
  [[ $said == *"it is of user $nobody"* ]] || fail "it says: $said"
  say router "a runtime directory of somebody else is refused"
  witness_check
}

rights
