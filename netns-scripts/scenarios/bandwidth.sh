# shellcheck shell=bash # sourced by lab.sh
# Scenario: bandwidth         iperf3 gets what a guest's bandwidth is, both ways; a rule with `log` names the guest; any DUT
# With DUT=kernel it is `tc … tbf`, which delays what tapgate drops.
# Run: netns-scripts/lab.sh run bandwidth [DUT=kernel]
recipe multi-mac

bandwidth() {
  topology_up
  cp "$configuration" "$state/limited.toml"
  cat >>"$state/limited.toml" <<'END'

[guests]
one = { port = "guest-a", addresses = ["10.0.1.1"], bandwidth = { out = "50Mbit/s", in = "80Mbit/s" } }
two = { port = "guest-b", addresses = ["10.0.2.1"] }

[policy]
rules = [
  { action = "reject", from = "one", proto = "tcp", port = 25, log = true },
  { action = "accept", from = "one" },
]
END
  configuration=$state/limited.toml
  router_start
  services_start
  guest_configure guest-a
  guest_configure guest-b
  pings guest-a && pings guest-b || fail "no connection before the test"
  [[ $dut != kernel ]] || kernel_limit

  measure guest-a out 50
  measure guest-a in 80 -R
  # Another guest is not concerned.
  inside guest-b iperf3 -c "$remote" -p "${iperf_port[guest-b]}" -t 2 -J >"$state/free.json" || fail "iperf3 failed"
  local free
  free=$(megabits "$state/free.json")
  say guest-b "without a limit: $free Mbit/s"
  ((free > 200)) || fail "guest-b has $free Mbit/s, and no limit"
  [[ $dut == kernel ]] || logged
  witness_check
}

# measure GUEST WAY MBIT [IPERF3'S]: TCP gets that much, within 15 %.
measure() {
  local guest=$1 way=$2 limit=$3 got
  shift 3
  inside "$guest" iperf3 -c "$remote" -p "${iperf_port[$guest]}" -t 6 -O 1 -J "$@" >"$state/$way.json" ||
    fail "iperf3 failed: $(jq .error "$state/$way.json")"
  got=$(megabits "$state/$way.json")
  say "$guest" "$way: $got of $limit Mbit/s"
  ((got * 100 >= limit * 85 && got * 100 <= limit * 115)) || fail "$way: $got Mbit/s instead of $limit"
}

megabits() {
  jq '.end.sum_received.bits_per_second / 1e6 | round' "$1"
}

# What a guest is sent leaves by its device, what it sends by its address's.
kernel_limit() {
  tc -n router qdisc add dev "${port[guest-a]}" root tbf rate 80mbit burst 512kb latency 50ms
  tc -n router qdisc add dev "${letter[guest-a]}" root tbf rate 50mbit burst 320kb latency 50ms
}

# The rule that rejects says so in tapgate's log, once each, with the guest's name.
logged() {
  local line
  ! inside guest-a timeout 3 bash -c "</dev/tcp/$remote/25" 2>/dev/null || fail "port 25 is open"
  sleep 0.3
  line=$(grep 'policy rule=' "$state/tapgate.log" | tail -n 1)
  say router "$line"
  [[ $line == *'rule="policy.rules[0]" action="reject" guest="one" interface="a" protocol=6'*"to=$remote:25 "* ]] ||
    fail "the log does not say which rule rejected whose flow"
}

bandwidth
