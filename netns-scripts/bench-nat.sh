#!/usr/bin/env bash
# New translated flows per second, in one run and on the same topology: the kernel's conntrack and nft,
# and tapgate, with 1, 100 and 10,000 rules of which the last one lets the flows through. Prints medians
# and ratios.
#
#   netns-scripts/bench-nat.sh [--quick] [--strict]
#
# A generator sends UDP packets as fast as its CPU can, each of which begins a flow: source address and
# port and destination address vary. What arrives translated at the sink counts. The kernel routes on the
# generator's CPU, in the generator's own system call, so it never gets more than it can do; tapgate has
# another CPU, and drops what is too much. CPU time is the whole machine's, generator and sink included.
# All of it happens in three network namespaces of its own, made anew for every measurement:
#
#   guest 10.0.0.0/20 --- 10.0.255.254 router 203.0.113.1-128 --- 192.0.2.1 provider
#
# Build as a user, run as root or with sudo. Sets the size of the kernel's table of connections
# (/proc/sys/net/netfilter/nf_conntrack_max, hashsize) for the run, and then to what it was.
set -euo pipefail
self=$(realpath "$0")
# shellcheck source=side-by-side.sh
source "$(dirname "$self")/side-by-side.sh"

rounds=3 seconds=3 strict='' arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --quick) rounds=1 ;;
    --strict) strict=yes ;;
    *) sed -n '2,/^set/{/^#/p}' "$self"; exit 64 ;;
  esac
  shift
done
readonly RULES=(1 100 10000) SESSIONS=8000000 SOURCES=4096 DESTINATIONS=65536
readonly MAC_A=02:00:00:00:00:aa MAC_GATEWAY=02:00:00:00:01:fe MAC_GUEST=02:00:00:00:02:01
readonly GUEST=10.0.0.1 GATEWAY=10.0.255.254 FIRST=203.0.113.1 LAST=203.0.113.128 REMOTE=198.18.0.1

prepare "iproute2 nftables jq iputils-ping" ip nft jq ping
readonly PROVIDER=bench-$$-provider ROUTER=bench-$$-router GUESTNS=bench-$$-guest
readonly FAR=$PROVIDER FAR_DEVICE=p0
readonly MAX=/proc/sys/net/netfilter/nf_conntrack_max
readonly BUCKETS=/sys/module/nf_conntrack/parameters/hashsize
max_before='' buckets_before=''

main() {
  trap end EXIT
  trap 'exit 130' INT TERM
  local round rules dut started=$SECONDS
  for ((round = 1; round <= rounds; round++)); do
    for rules in "${RULES[@]}"; do
      for dut in kernel tapgate; do
        echo "round $round of $rounds, $rules rules, $dut" >&2
        topology_up
        "${dut}_up" "$rules"
        reachable "$dut"
        sleep 4 # until what a start has to say is said
        measure "$dut" "$rules"
        tapgate_down
        namespaces_down
      done
    done
  done
  machine "$rounds" "$started"
  report | tee "$work/report"
  warn_if_disturbed
  [ -z "$strict" ] || ! grep -q 'NOT MET' "$work/report" || exit 2
}

end() {
  [ -z "$max_before" ] || echo "$max_before" >"$MAX"
  [ -z "$buckets_before" ] || echo "$buckets_before" >"$BUCKETS"
  remove
}

topology_up() {
  local ns
  for ns in "$PROVIDER" "$ROUTER" "$GUESTNS"; do namespace4 "$ns"; done
  ip -n "$ROUTER" link add eth0 type veth peer name p0 netns "$PROVIDER"
  ip -n "$ROUTER" link add veth-a type veth peer name g0 address "$MAC_GUEST" netns "$GUESTNS"
  ip -n "$ROUTER" link set eth0 up
  ip -n "$ROUTER" link set veth-a up

  ip -n "$PROVIDER" address add "$REMOTE/32" dev lo
  ip -n "$PROVIDER" address add 192.0.2.1/24 dev p0
  ip -n "$PROVIDER" link set p0 up
  ip -n "$PROVIDER" route add 203.0.113.0/24 dev p0 src "$REMOTE"
  # The sink: what was translated rightly, counted and dropped before the provider's IP stack sees it;
  # and what left in any other shape.
  ip netns exec "$PROVIDER" nft -f - <<NFT
table netdev sink {
  counter right {}
  counter wrong {}
  chain ingress {
    type filter hook ingress device "p0" priority 0;
    ether saddr $MAC_A ip saddr $FIRST-$LAST ip length 46 udp dport 9 counter name right drop
    udp dport 9 counter name wrong drop
  }
}
NFT
  ip -n "$GUESTNS" address add "$GUEST/16" dev g0
  ip -n "$GUESTNS" link set g0 up
  ip -n "$GUESTNS" route add default via "$GATEWAY"
}

# The rules as an administrator writes them, one after the other.
kernel_up() {
  ip -n "$ROUTER" link set eth0 address "$MAC_A"
  ip -n "$ROUTER" link set veth-a address "$MAC_GATEWAY"
  addresses | sed 's/.*/address add &\/32 dev eth0/' | ip -n "$ROUTER" -batch -
  ip -n "$ROUTER" address add "$GATEWAY/16" dev veth-a
  ip -n "$ROUTER" route add default via 192.0.2.1 dev eth0 onlink
  {
    cat <<NFT
table ip router {
  chain translated {
    type nat hook postrouting priority srcnat;
    oifname "eth0" ip saddr 10.0.0.0/16 snat to $FIRST-$LAST
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
NFT
    others "$1" | awk '{ print "    ip daddr", $1, "udp dport", $2, "drop" }'
    printf '    iifname "veth-a" accept\n  }\n}\n'
  } >"$work/rules.nft"
  ip netns exec "$ROUTER" nft -f "$work/rules.nft"
  ip netns exec "$ROUTER" sysctl -qw net.ipv4.ip_forward=1
  if [ -z "$max_before" ]; then
    max_before=$(<"$MAX") buckets_before=$(<"$BUCKETS")
    echo "bench: room for $SESSIONS connections in the kernel, for now" >&2
    echo "$SESSIONS" >"$MAX"
    echo $((SESSIONS / 2)) >"$BUCKETS"
  fi
}

tapgate_up() {
  {
    cat <<TOML
[router]
sessions = $SESSIONS

[ports]
uplink = { device = "eth0" }
guest  = { device = "veth-a" }

[personalities]
A = { port = "uplink", mac = "$MAC_A", gateway = "192.0.2.1", onlink = true, addresses = [
$(addresses | sed 's/.*/  "&\/32",/')
] }

[networks]
a = { ports = ["guest"], addresses = ["$GATEWAY/16"], mac = "$MAC_GATEWAY" }

[guests]
$(guests)

[tables]
main = [{ to = "default", dev = "A" }]

[nat]
snat = [{ from = "10.0.0.0/16", to = "$FIRST-$LAST" }]

[policy]
rules = [
TOML
    others "$1" |
      awk '{ printf "  { action = \"drop\", proto = \"udp\", destination = \"%s\", port = %d },\n", $1, $2 }'
    printf '  { action = "accept", from = "a" },\n]\ndefault = [{ action = "drop" }]\n'
  } >"$work/bench.toml"
  tapgate_run "$work/bench.toml"
}

# Address and port that each rule but the last is about: some of the addresses are spoken to, the ports not.
others() {
  seq 2 "$1" | awk '{ printf "198.18.%d.%d %d\n", $1 / 256 % 256, $1 % 256, 1000 + $1 }'
}

# Of the range each guest has one address: as many guests as there are addresses.
guests() {
  local n
  for ((n = 0; n < SOURCES / 32; n++)); do
    echo "g$n = { port = \"guest\", addresses = [\"10.0.$((n / 8)).$((n % 8 * 32))/27\"], limits = {" \
      "sessions = $SESSIONS, ports = 65535, new_sessions_per_second = 10_000_000, new_destinations_per_second = 10_000_000 } }"
  done
}

addresses() {
  seq "${FIRST##*.}" "${LAST##*.}" | sed "s/^/${FIRST%.*}./"
}

# The middle is measured. Then the router must have as many sessions as have arrived: each was a new one.
measure() {
  local generator sunk right sessions
  disturbance
  ip netns exec "$GUESTNS" "$bin/opener" --dev g0 --to-mac "$MAC_GATEWAY" --from 10.0.0.0 \
    --sources "$SOURCES" --to 198.18.0.0 --destinations "$DESTINATIONS" \
    --seconds $((seconds + 1)) >"$work/opened" &
  generator=$!
  sleep 0.5
  sunk=$(sink "$seconds")
  wait "$generator"
  right=$(counted right)
  sessions=$("$1_sessions")
  jq -r --arg dut "$1" --arg rules "$2" --argjson offered "$(jq '.flows / .seconds' "$work/opened")" \
    '"\($dut) \($rules) \(.frames_per_second) \(.cpu_ns_per_frame) \($offered)"' <<<"$sunk" >>"$results"
  if (($(counted wrong) > 0 || sessions < right * 99 / 100 || right == 0)); then
    echo "bench: $1: $right arrived rightly, $(counted wrong) wrongly, and it has $sessions sessions" >&2
    exit 1
  fi
}

kernel_sessions() { ip netns exec "$ROUTER" cat /proc/sys/net/netfilter/nf_conntrack_count; }

tapgate_sessions() {
  "$tapgate" show counters --json --runtime-dir "$work/run" |
    jq '[.. | objects | select(.name? == "sessions_created") | .value] | add'
}

counted() {
  ip netns exec "$PROVIDER" nft -j list counter netdev sink "$1" |
    jq '.nftables[].counter.packets // empty'
}

report() {
  sort -k1,1 -k2,2n -k3,3n "$results" | awk '
    function middle(list, n) { return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2 }
    { n = ++count[$1, $2]; flows[$1, $2, n] = $3; cpu[$1, $2, n] = $4; offered[$1, $2, n] = $5
      if (!($2 in seen)) { seen[$2] = 1; rules[++kinds] = $2 } }
    function median(values, dut, rules, n, list, i, j, least) {
      n = count[dut, rules]
      for (i = 1; i <= n; i++) list[i] = values[dut, rules, i]
      for (i = 1; i <= n; i++)
        for (j = i + 1; j <= n; j++)
          if (list[j] < list[i]) { least = list[j]; list[j] = list[i]; list[i] = least }
      return middle(list, n)
    }
    END {
      line = "%-8s %14s %14s %8s %17s %17s %20s\n"
      printf line, "rules", "kernel", "tapgate", "ratio", "kernel CPU", "tapgate CPU", "offered to tapgate"
      printf line, "", "flows/s", "flows/s", "", "ns a flow", "ns a flow", "flows/s"
      for (k = 1; k <= kinds; k++) {
        r = rules[k]
        a = median(flows, "kernel", r); b = median(flows, "tapgate", r)
        printf line, r, sprintf("%.0f", a), sprintf("%.0f", b), sprintf("%.2f", b / a),
          sprintf("%.0f", median(cpu, "kernel", r)), sprintf("%.0f", median(cpu, "tapgate", r)),
          sprintf("%.0f", median(offered, "tapgate", r))
        bars = bars sprintf("%s rules: %.2f of the kernel; at least 1: %s\n", r, b / a, b >= a ? "met" : "NOT MET")
      }
      printf "\n%s", bars
    }'
}

main
