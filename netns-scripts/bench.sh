#!/usr/bin/env bash
# Side by side, in one run and on the same topology: the kernel doing the recipe with macvlan,
# ip rule and iptables, and tapgate. Prints medians, ratios and the bars.
#
#   netns-scripts/bench.sh [--quick] [--strict] [--json FILE] [--only kernel|tapgate]
#
# All of it happens in three network namespaces of its own, which are removed at the end:
#
#   guest 10.0.1.1 --- 10.0.1.254 router 203.0.113.10 (MAC aa) --- 192.0.2.1 provider 198.51.100.1
#
# Build as a user, run as root or with sudo. TAPGATE=FILE names another tapgate program to measure.
set -euo pipefail
self=$(realpath "$0")
# shellcheck source=side-by-side.sh
source "$(dirname "$self")/side-by-side.sh"

rounds=4 tcp_seconds=4 udp_seconds=3 samples=2000 idle_seconds=10
strict=() json=() duts=(kernel tapgate) arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --quick) rounds=2 tcp_seconds=2 udp_seconds=2 ;;
    --strict) strict=(--strict) ;;
    --json) json=(--json "$2"); shift ;;
    --only) duts=("$2"); shift ;;
    *) sed -n '2,/^set/{/^#/p}' "$self"; exit 64 ;;
  esac
  shift
done
readonly PACED=200000 FLOWS=64
readonly MAC_A=02:00:00:00:00:aa MAC_GATEWAY=02:00:00:00:01:fe
readonly GUEST=10.0.1.1 PUBLIC=203.0.113.10 REMOTE=198.51.100.1

prepare "iproute2 nftables iptables ethtool iperf3 iputils-ping jq" ip nft iptables ethtool iperf3 ping jq
server=''
readonly PROVIDER=bench-$$-provider ROUTER=bench-$$-router GUESTNS=bench-$$-guest
readonly FAR=$PROVIDER FAR_DEVICE=p0

main() {
  trap 'server_down; remove' EXIT
  trap 'exit 130' INT TERM
  topology_up
  local round dut started=$SECONDS
  for ((round = 1; round <= rounds; round++)); do
    for dut in "${duts[@]}"; do
      printf 'round %d of %d, %s\n' "$round" "$rounds" "$dut" >&2
      "${dut}_up"
      reachable "$dut"
      measure "$dut"
      [[ $dut != tapgate || $round != "$rounds" ]] || footprint
      "${dut}_down"
    done
  done
  machine "$rounds" "$started"
  "$bin/report" "${strict[@]}" "${json[@]}" <"$results"
  warn_if_disturbed
}

topology_up() {
  echo "bench: making namespaces $PROVIDER, $ROUTER, $GUESTNS" >&2
  local ns
  for ns in "$PROVIDER" "$ROUTER" "$GUESTNS"; do namespace4 "$ns"; done
  ip -n "$ROUTER" link add eth0 type veth peer name p0 netns "$PROVIDER"
  ip -n "$ROUTER" link add veth-a type veth peer name g0 netns "$GUESTNS"
  ip -n "$ROUTER" link set eth0 up
  ip -n "$ROUTER" link set veth-a up

  ip -n "$PROVIDER" address add "$REMOTE/32" dev lo
  ip -n "$PROVIDER" address add 192.0.2.1/24 dev p0
  ip -n "$PROVIDER" link set p0 up
  ip -n "$PROVIDER" route add "$PUBLIC/32" dev p0 src "$REMOTE"
  # The sink: what the generator sent and the router translated rightly, counted and dropped
  # before the provider's IP stack sees it; and what left in any other shape.
  ip netns exec "$PROVIDER" nft -f - <<EOF
table netdev sink {
  chain ingress {
  type filter hook ingress device "p0" priority 0;
  ether saddr $MAC_A ip saddr $PUBLIC ip length 46 udp dport 9 counter drop
  udp dport 9 counter drop
  ether saddr != $MAC_A counter
  }
}
EOF
  ip -n "$GUESTNS" address add "$GUEST/24" dev g0
  # pktgen's super-frames are cut here, and not in the router under test.
  guest ethtool -K g0 tx-udp-segmentation off
  ip -n "$GUESTNS" link set g0 up
  ip -n "$GUESTNS" route add default via 10.0.1.254

  ip netns exec "$PROVIDER" iperf3 --server --bind "$REMOTE" >"$work/iperf3-server" 2>&1 &
  server=$!
}

server_down() {
  [ -z "$server" ] || { kill "$server"; wait "$server"; } 2>/dev/null || true
}

# The recipe's own commands.
kernel_up() {
  ip -n "$ROUTER" link add link eth0 name A address "$MAC_A" type macvlan mode private
  ip -n "$ROUTER" address add "$PUBLIC/32" dev A
  ip -n "$ROUTER" link set A up
  ip -n "$ROUTER" link set veth-a address "$MAC_GATEWAY"
  ip -n "$ROUTER" address add 10.0.1.254/24 dev veth-a
  ip -n "$ROUTER" route add default via 192.0.2.1 dev A onlink table 101
  ip -n "$ROUTER" rule add from 10.0.1.0/24 lookup 101 pref 60000
  ip -n "$ROUTER" rule add from "$PUBLIC" lookup 101 pref 60010
  ip netns exec "$ROUTER" iptables -t nat -A POSTROUTING -s 10.0.1.0/24 -o A \
    -j SNAT --to-source "$PUBLIC"
  # Or eth0 answers ARP for the personality, too.
  ip netns exec "$ROUTER" sysctl -qw net.ipv4.ip_forward=1 \
    net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
}

kernel_down() {
  ip netns exec "$ROUTER" sysctl -qw net.ipv4.ip_forward=0
  ip netns exec "$ROUTER" iptables -t nat -F
  ip -n "$ROUTER" rule del pref 60000
  ip -n "$ROUTER" rule del pref 60010
  ip -n "$ROUTER" link del A
  ip -n "$ROUTER" address flush dev veth-a
  # So that only the recipe answers for the gateway's MAC.
  ip -n "$ROUTER" link set veth-a address 02:00:00:00:01:01
}

tapgate_up() {
  cat >"$work/bench.toml" <<EOF
[ports]
uplink  = { device = "eth0" }
guest-a = { device = "veth-a" }

[personalities]
A = { port = "uplink", mac = "$MAC_A", addresses = ["$PUBLIC/32"], gateway = "192.0.2.1", onlink = true }

[networks]
a = { ports = ["guest-a"], addresses = ["10.0.1.254/24"], mac = "$MAC_GATEWAY" }

[tables]
ipA = [{ to = "default", dev = "A" }]

[routing]
rules = [
  { priority = 60000, from = "10.0.1.0/24", lookup = "ipA" },
  { priority = 60010, from = "$PUBLIC", lookup = "ipA" },
]

[nat]
snat = [{ from = "10.0.1.0/24", to = "$PUBLIC" }]
EOF
  tapgate_run "$work/bench.toml"
}

measure() {
  local out
  disturbance
  out=$(guest "$bin/rtt" --to "$REMOTE" --count "$samples")
  field "$out" rtt_p50_us p50_us 1 "$1"
  field "$out" rtt_p99_us p99_us 1 "$1"

  out=$(guest iperf3 --client "$REMOTE" --time "$tcp_seconds" --json)
  field "$out" tcp_out_gbps end.sum_received.bits_per_second 1e-9 "$1"
  out=$(guest iperf3 --client "$REMOTE" --time "$tcp_seconds" --reverse --json)
  field "$out" tcp_in_gbps end.sum_received.bits_per_second 1e-9 "$1"

  flood "$1" 0
  field "$sunk" udp_mpps frames_per_second 1e-6 "$1"
  field "$sunk" flood_cpu_ns cpu_ns_per_frame 1 "$1"
  flood "$1" "$PACED"
  field "$sunk" paced_cpu_ns cpu_ns_per_frame 1 "$1"
  jq -r --arg dut "$1" --argjson rate "$PACED" \
    '"\($dut) paced_lost_percent \([0, 100 - 100 * .frames_per_second / $rate] | max)"' \
    <<<"$sunk" >>"$results"
  disturbance
}

# Floods at a rate (0: all that goes) and leaves the sink's measurement in $sunk. The sink
# measures the middle: the sessions are there, the caches warm.
flood() {
  local generator good
  guest "$bin/pktgen" --dev g0 --to-mac "$MAC_GATEWAY" --from "$GUEST" --to "$REMOTE" \
    --flows "$FLOWS" --rate "$2" --seconds $((udp_seconds + 1)) >"$work/sent" &
  generator=$!
  sleep 0.5
  sunk=$(sink "$udp_seconds")
  wait "$generator"
  good=$(ip netns exec "$PROVIDER" nft -j list chain netdev sink ingress |
    jq -c '[.nftables[].rule.expr // empty | .[].counter.packets // empty]')
  if [[ $good != *",0,0]" ]]; then
    echo "bench: $1 sent frames with a wrong MAC or address: right, wrong, wrong MAC: $good" >&2
    exit 1
  fi
}

# What tapgate costs when nothing happens, and its memory.
footprint() {
  local dataplane before after
  dataplane=$(pgrep -P "$router" | head -n 1)
  before=$(cpu_ns "${dataplane:-$router}")
  sleep "$idle_seconds"
  after=$(cpu_ns "${dataplane:-$router}")
  echo "tapgate idle_percent $(((after - before) / idle_seconds / 10000))e-3" >>"$results"
  awk '/^VmRSS/ { print "tapgate rss_mib", $2 / 1024 }' \
    "/proc/${dataplane:-$router}/status" >>"$results"
}

# CPU time of all threads of a process so far, in nanoseconds.
cpu_ns() {
  cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# field JSON METRIC PATH SCALE DUT: one line of results.
field() {
  jq -r --arg dut "$5" --arg metric "$2" --argjson scale "$4" \
    "\"\\(\$dut) \\(\$metric) \\(.$3 * \$scale)\"" <<<"$1" >>"$results"
}

guest() { ip netns exec "$GUESTNS" "$@"; }

main
