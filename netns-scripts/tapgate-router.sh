#!/usr/bin/env bash
# DUT=tapgate: one process and one file in the router's place. Sourced.
# Run: netns-scripts/lab.sh up

tapgate=${TAPGATE:-${CARGO_TARGET_DIR:-$here/../target}/release/tapgate}
configuration=$here/../examples/multi-mac.toml

router_start() {
  [[ -x $tapgate ]] || fail "there is no $tapgate; make it with: cargo build --release"
  veth_attach guest-b veth-b
  tapgate_start
}

# Starts tapgate with $configuration and waits until the ports that it makes are there.
tapgate_start() {
  inside router "$tapgate" run "$configuration" --runtime-dir "$state/tapgate" \
    >>"$state/tapgate.log" 2>&1 &
  control_pid=$!
  local deadline=$((SECONDS + 10))
  until ip -n guest-a link show tap-a >/dev/null 2>&1 && ip -n router link show vm-c >/dev/null 2>&1; do
    kill -0 "$control_pid" 2>/dev/null || fail "tapgate run ended"
    ((SECONDS < deadline)) || fail "tapgate made no tap-a and vm-c in 10 s"
    sleep 0.02
  done
}

# tapgate_ask ARGUMENTS...: the command line, at the running tapgate.
tapgate_ask() {
  inside router "$tapgate" "$@" --runtime-dir "$state/tapgate"
}

router_state() {
  local what
  for what in ports interfaces rules routes neighbors counters drops sessions; do
    echo "--- tapgate show $what"
    timeout 5 ip netns exec router "$tapgate" show $what --runtime-dir "$state/tapgate" | head -n 60
  done
  echo "--- tapgate's log"
  tail -n 50 "$state/tapgate.log"
}
