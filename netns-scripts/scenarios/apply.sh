# shellcheck shell=bash # sourced by lab.sh
# Scenario: apply             five changes of configuration under iperf3 load cause no retransmission
# One guest sends and the other receives 1 Gbit/s; the same load without changes is the baseline.
# Run: netns-scripts/lab.sh run apply
recipe multi-mac

apply_under_load() {
  topology_up
  router_start
  services_start
  flows_serve
  guest_configure guest-a
  guest_configure guest-b
  retransmit_losses_only
  pings guest-a && pings guest-b || fail "no connection before the test"
  sed '/lookup = "catch-all"/i\  { priority = 61000, from = "10.9.0.0/24", lookup = "ipA" },' \
    "$configuration" >"$state/changed.toml"
  ! cmp -s "$configuration" "$state/changed.toml" || fail "the changed configuration is the same"

  load_start
  load_end
  local baseline=$retransmitted
  say baseline "$gigabits; $baseline segments retransmitted without any apply"

  five_applies
  say apply "$gigabits; $retransmitted segments retransmitted; longest gap $gap_ms ms"
  ((lost == 0)) || fail "the applies lost $lost datagrams of another flow"
  ((retransmitted <= baseline)) ||
    fail "the applies caused $((retransmitted - baseline)) retransmissions: $(losses | paste -sd ' ')"
  tapgate_ask show rules --json | jq -e 'any(.[]; .priority == 61000)' >/dev/null ||
    fail "the last apply is not in force"
  witness_check
}

five_applies() {
  local files=("$state/changed.toml" "$configuration") i
  flow_start guest-a echo 4 1000
  load_start
  for i in 0 1 2 3 4; do
    sleep 0.6
    tapgate_ask apply "${files[i % 2]}" >"$state/apply.log" 2>&1 || fail "apply failed: $(cat "$state/apply.log")"
    say router "apply $((i + 1)) of 5"
  done
  load_end
  flow_end guest-a echo
}

# The kernels' own counts of what went wrong between TCP and TCP.
losses() {
  local ns
  for ns in guest-a guest-b remote; do
    inside "$ns" nstat --reset --ignore --zeros 2>/dev/null |
      awk -v ns="$ns" '$2 > 0 && /Retrans|Drop|Timeouts|Collapsed|Loss|SACK|Prune|Overflow/ { print ns ":" $1 "=" $2 }'
  done
}

load_start() {
  inside guest-a iperf3 -c "$remote" -p "${iperf_port[guest-a]}" -t 4 -b 1G -J >"$state/out.json" &
  out_pid=$!
  inside guest-b iperf3 -c "$remote" -p "${iperf_port[guest-b]}" -t 4 -b 1G -R -J >"$state/in.json" &
  in_pid=$!
}

load_end() {
  wait "$out_pid" && wait "$in_pid" || fail "iperf3 failed: $(jq .error "$state/out.json" "$state/in.json")"
  retransmitted=$(jq -s 'map(.end.sum_sent.retransmits) | add' "$state/out.json" "$state/in.json")
  gigabits=$(jq -sr 'map(.end.sum_received.bits_per_second / 1e7 | round / 100 | tostring) |
    "\(.[0]) Gbit/s out, \(.[1]) Gbit/s in"' "$state/out.json" "$state/in.json")
}

apply_under_load
