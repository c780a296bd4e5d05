#!/usr/bin/env bash
# DUT=tapgate: one process and one file in the router's place. Sourced.
# Run: netns-scripts/lab.sh up

built=${TAPGATE:-${CARGO_TARGET_DIR:-$(dirname "$here")/target}/release/tapgate}
tapgate=$state/bin/tapgate

router_start() {
  local guest
  if [[ ${CONFIGURATION-} ]]; then
    devices_attach
  else
    for guest in "${guests[@]}"; do
      [[ ${kind[$guest]} != veth ]] || veth_attach "$guest"
    done
  fi
  tapgate_start
}

# Starts tapgate with $configuration and waits until the ports that it makes are there.
tapgate_start() {
  # From a copy: the dataplane's user may not look into everybody's home.
  [[ -x $tapgate ]] || tapgate_copy
  # Not `inside`: $! must be tapgate's own process.
  ip netns exec router "$tapgate" run "$configuration" --runtime-dir "$state/tapgate" --user nobody \
    >>"$state/tapgate.log" 2>&1 &
  control_pid=$!
  local deadline=$((SECONDS + 10))
  until tapgate_ask status >/dev/null 2>&1 && tapgate_made; do
    kill -0 "$control_pid" 2>/dev/null || fail "tapgate run ended"
    ((SECONDS < deadline)) || fail "tapgate did not answer, with all its TAPs made, in 10 s"
    sleep 0.02
  done
}

# Whether the TAPs that tapgate makes are there.
tapgate_made() {
  local guest
  for guest in "${guests[@]}"; do
    case ${kind[$guest]} in
      tap) ip -n "$guest" link show "${device[$guest]}" ;;
      VM) ip -n router link show "${port[$guest]}" ;;
    esac >/dev/null 2>&1 || return 1
  done
}

tapgate_copy() {
  [[ -x $built && -x $built-dataplane ]] ||
    fail "there is no $built and $built-dataplane; make them with: cargo build --release"
  mkdir -p "$state/bin"
  cp "$built" "$built-dataplane" "$state/bin/"
}

# tapgate_ask ARGUMENTS...: the command line, at the running tapgate.
tapgate_ask() {
  inside router "$tapgate" "$@" --runtime-dir "$state/tapgate"
}

# The process id of the running dataplane; nothing if there is none. Only the lab's processes are
# visible in the lab.
dataplane_pid() {
  pgrep -x tapgate-datapla # the kernel keeps 15 characters of a name
}

router_state() {
  local what
  for what in ports interfaces rules routes neighbors counters drops sessions; do
    echo "--- tapgate show $what"
    timeout 5 ip netns exec router "$tapgate" show $what --runtime-dir "$state/tapgate" 2>&1 | head -n 60
  done
  echo "--- tapgate's log"
  tail -n 50 "$state/tapgate.log" 2>/dev/null
}
