# shellcheck shell=bash # sourced by lab.sh
# Scenario: stop-closed       policy.on_stop = "closed": after SIGTERM and kill -9 guests still do not reach the host
# Run: netns-scripts/lab.sh run stop-closed
recipe multi-mac

stop_closed() {
  topology_up
  veth_attach guest-b
  cp "$configuration" "$state/host.toml"
  { cat "$configuration" && printf '\n[policy]\non_stop = "closed"\n'; } >"$state/closed.toml"
  # The host's own kernel could be reached here, as by a guest that attacks it.
  ip -n router address add 10.0.2.250/24 dev veth-b
  configuration=$state/closed.toml
  tapgate_start
  guest_configure guest-b
  pings guest-b || fail "no connection before the test"
  ends TERM "after SIGTERM"
  tapgate_start
  pings guest-b 5 || fail "no connection when it runs again"
  ends KILL "after kill -9 of all its processes"
  configuration=$state/host.toml
  tapgate_start
  pings guest-b 5 || fail "no connection when it runs again"
  kill -TERM "$control_pid" && gone
  pings guest-b 2 10.0.2.250 || fail "after a stop without on_stop the host is not as before"
  [[ -z $(inside router nft list tables) ]] || fail "rules are left: $(inside router nft list tables)"
  say router "without it nothing is left"
}

# ends SIGNAL WHEN: tapgate ends, and the guest does not reach the host.
ends() {
  # shellcheck disable=SC2046 # numbers
  if [[ $1 == KILL ]]; then kill -KILL $(pgrep tapgate); else kill -TERM "$control_pid"; fi
  gone
  ! pings guest-b 1 10.0.2.250 || fail "$2 the guest reaches the host's kernel"
  say guest-b "$2 the host's kernel hears nothing of it"
}

# All of tapgate's processes have ended.
gone() {
  local deadline=$((SECONDS + 10))
  wait "$control_pid" 2>/dev/null || true
  while pgrep tapgate >/dev/null; do
    ((SECONDS < deadline)) || fail "tapgate still runs: $(pgrep -l tapgate)"
    sleep 0.05
  done
}

stop_closed
