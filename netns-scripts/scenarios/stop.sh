# shellcheck shell=bash # sourced by lab.sh
# Scenario: stop              SIGTERM ends tapgate, and leaves nothing behind
# Run: netns-scripts/lab.sh run stop
recipe multi-mac

stop_cleanly() {
  topology_up
  veth_attach guest-b
  local before after deadline
  before=$(traces)
  tapgate_start
  guest_configure guest-a
  guest_configure guest-b
  pings guest-a && pings guest-b || fail "no connection before the test"
  local during
  during=$(traces)
  [[ $during != "$before" ]] || fail "a running tapgate left no trace: this test sees nothing"

  kill -TERM "$control_pid"
  deadline=$((SECONDS + 5))
  while kill -0 "$control_pid" 2>/dev/null; do
    ((SECONDS < deadline)) || fail "tapgate still runs 5 s after SIGTERM"
    sleep 0.02
  done
  wait "$control_pid" || fail "tapgate ended with status $? at SIGTERM"
  # What the test itself did, and its guests' own sockets and neighbours, are not in the traces.
  after=$(traces)
  [[ $after == "$before" ]] || fail "SIGTERM left something behind:"$'\n'"$(diff <(echo "$before") <(echo "$after"))"
  say router "ended at SIGTERM; processes, sockets, devices and namespaces are as before"
  witness_check
}

# Everything that tapgate could leave: processes, devices and their flags, packet sockets,
# namespaces, routing, packet filters, files.
traces() {
  local ns
  pgrep -l tapgate || true
  find /run /dev/shm -path "$state/bin" -prune -o -name '*tapgate*' ! -name '*.log' -print
  for ns in $(ip netns list | cut -d ' ' -f 1 | sort); do
    echo "--- $ns"
    ip -n "$ns" -d -o link show | sed -E 's/ (state|qdisc) [^ ]+//g; s/<[^>]*>//' | grep -v ' gre0\| erspan0\| sit0' || true
    ip -n "$ns" rule
    # shellcheck disable=SC2016 # awk's own
    inside "$ns" awk 'NR > 1 { print "packet socket", $4, $5 }' /proc/net/packet
    inside "$ns" nft list ruleset | grep -v 'elements\|counter packets' || true
    inside "$ns" sysctl net.ipv4.ip_forward
  done
}

stop_cleanly
