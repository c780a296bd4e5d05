#!/usr/bin/env bash
# Neighbour solicitations and ARP requests answered per second for guests' addresses, in one run and
# on the same veth: tapgate, the kernel with an `ip neigh add proxy` entry for each address, and
# ndppd (NDP only). Then what it takes tapgate to load 100,000 addresses from a file.
#
#   netns-scripts/bench-answers.sh [--quick] [--strict]
#
# Each is asked about all its addresses in turn, by one asker and by two at once, each as fast as the
# kernel takes requests. An asker takes a CPU. The kernel answers on that CPU, in the asker's own
# system call; the others need a second one. Ratios and bars are those of one asker, as a link has one
# provider's gateway; two askers leave no CPU of two to anybody but the kernel, and are shown.
# What counts as an answer is a solicited one, to the asker's MAC, from the right one, about an owned
# address. All of it happens in two network namespaces of its own, which are removed at the end.
# Build as a user, run as root or with sudo.
set -euo pipefail
self=$(realpath "$0")
# shellcheck source=side-by-side.sh
source "$(dirname "$self")/side-by-side.sh"

rounds=2 strict='' arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --quick) rounds=1 ;;
    --strict) strict=yes ;;
    *) sed -n '2,/^set/{/^#/p}' "$self"; exit 64 ;;
  esac
  shift
done
readonly SECONDS_EACH=1
# Of each family. tapgate's last is 100,000 addresses in all.
readonly FEW=10 MANY=10000 MOST=50000
readonly MAC_A=02:00:00:00:00:aa MAC_ROUTER=02:00:00:00:00:01 MAC_ASKER=02:00:00:00:00:02
readonly ASKER4=192.0.2.1 ASKER6=fe80::ff:fe00:2
readonly FIRST4=10.0.0.0 FIRST6=2001:db8:0:1::1:0

prepare "iproute2 nftables jq" ip nft jq
ndppd='' ndppd_program='' bars=$work/bars
readonly ROUTER=bench-$$-router ASKERNS=bench-$$-asker
readonly FAR=$ASKERNS FAR_DEVICE=a0

main() {
  trap 'ndppd_down; remove' EXIT
  trap 'exit 130' INT TERM
  ndppd_found
  topology_up
  local round started=$SECONDS
  for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    kernel
    ndppd
    tapgate
  done
  machine "$rounds" "$started"
  report
  warn_if_disturbed
  [ -z "$strict" ] || ! grep -q 'NOT MET' "$bars" || exit 2
}

# Not installed, because the package would start it on the host: unpacked.
ndppd_found() {
  ndppd_program=$(command -v /usr/sbin/ndppd) && return
  ndppd_program=$work/package/usr/sbin/ndppd
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download ndppd && dpkg -x ndppd_*.deb package) || {
    echo "bench: apt-get cannot download ndppd: see above, or install it" >&2
    exit 69
  }
}

topology_up() {
  echo "bench: making namespaces $ROUTER, $ASKERNS" >&2
  local ns
  for ns in "$ROUTER" "$ASKERNS"; do
    namespace "$ns"
    ip netns exec "$ns" sysctl -qw net.ipv6.conf.default.accept_dad=0
  done
  ip -n "$ROUTER" link add eth0 address "$MAC_ROUTER" type veth \
    peer name a0 address "$MAC_ASKER" netns "$ASKERNS"
  ip -n "$ROUTER" link add guest type veth peer name guest-end
  ip -n "$ROUTER" link set eth0 up
  ip -n "$ROUTER" link set guest up
  ip -n "$ROUTER" link set guest-end up
  ip -n "$ASKERNS" address add "$ASKER4/24" dev a0
  ip -n "$ASKERNS" link set a0 up
}

# Without proxy_delay 0 the kernel puts answers off by up to 0.8 s, and drops all but 64.
kernel() {
  local addresses
  ip -n "$ROUTER" address add 192.0.2.7/24 dev eth0
  ip -n "$ROUTER" route add 10.0.0.0/8 dev guest
  ip netns exec "$ROUTER" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv6.conf.eth0.proxy_ndp=1 net.ipv4.neigh.eth0.proxy_delay=0 \
    net.ipv6.neigh.eth0.proxy_delay=0
  for addresses in "$FEW" "$MANY"; do
    { owned4 "$addresses"; owned6 "$addresses"; } | sed 's/.*/neigh replace proxy & dev eth0/' |
      ip -n "$ROUTER" -batch -
    settle
    measure kernel "$addresses" "$addresses" "$MAC_ROUTER"
  done
  { owned4 "$MANY"; owned6 "$MANY"; } | sed 's/.*/neigh delete proxy & dev eth0/' |
    ip -n "$ROUTER" -batch -
  ip netns exec "$ROUTER" sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 \
    net.ipv6.conf.eth0.proxy_ndp=0
  ip -n "$ROUTER" route del 10.0.0.0/8 dev guest
  ip -n "$ROUTER" address del 192.0.2.7/24 dev eth0
}

# Rules that say `static`, the fastest it has: it answers without looking for the guest.
ndppd() {
  ndppd_up "$(owned6 "$FEW" | sed 's/.*/rule &\/128 { static }/')"
  measure 'ndppd /128' "$FEW" "$FEW" "$MAC_ROUTER" 6
  ndppd_down
  ndppd_up "rule ${FIRST6%1:0}/64 { static }"
  measure 'ndppd /64' "$FEW" "$FEW" "$MAC_ROUTER" 6
  measure 'ndppd /64' "$MANY" "$MANY" "$MAC_ROUTER" 6
  ndppd_down
}

ndppd_up() {
  printf 'proxy eth0 {\n%s\n}\n' "$1" >"$work/ndppd.conf"
  ip netns exec "$ROUTER" "$ndppd_program" -c "$work/ndppd.conf" >"$work/ndppd.log" 2>&1 &
  ndppd=$!
  settle
}

ndppd_down() {
  [ -z "$ndppd" ] || { kill "$ndppd"; wait "$ndppd"; } 2>/dev/null || true
  ndppd=''
}

tapgate() {
  local addresses
  for addresses in "$FEW" "$MANY" "$MOST"; do
    configuration "$addresses" >"$work/$addresses.toml"
  done
  start "$FEW"
  # Its own addresses pass duplicate detection first.
  sleep 2
  measure tapgate "$FEW" "$FEW" "$MAC_A"
  apply "$MANY"
  measure tapgate "$MANY" "$MANY" "$MAC_A"
  load
  sleep 2
  measure tapgate "$MOST" "$MOST" "$MAC_A"
  tapgate_down
}

configuration() {
  cat <<TOML
[ports]
uplink = { device = "eth0" }
guest  = { device = "guest" }

[personalities]
A = { port = "uplink", mac = "$MAC_A", addresses = ["192.0.2.7/24", "2001:db8::7/64"] }

[networks]
lan = { ports = ["guest"], addresses = ["192.168.1.254/24"] }

[guests.guest]
port = "guest"
public = [
$({ owned4 "$1"; owned6 "$1"; } | sed 's/.*/  "&",/')
]
TOML
}

apply() {
  ip netns exec "$ROUTER" "$tapgate" apply "$work/$1.toml" --runtime-dir "$work/run" >/dev/null || {
    tail -n 20 "$work/tapgate.log" >&2
    exit 1
  }
}

# From nothing until the configuration is in force, at most 5 s.
start() {
  tapgate_run "$work/$1.toml"
  for _ in {1..500}; do
    "$tapgate" status --runtime-dir "$work/run" 2>&1 | grep -q 'generation 1' && return
    sleep 0.01
  done
  tail -n 20 "$work/tapgate.log" >&2
  exit 1
}

# The time that 100,000 addresses take from a file to the dataplane, and the memory they take there,
# in dataplanes that had no other large configuration before. Goes on with the last.
load() {
  local few
  tapgate_down
  timed check_ms ip netns exec "$ROUTER" "$tapgate" check "$work/$MOST.toml"
  start "$FEW"
  few=$(resident)
  timed apply_ms apply "$MOST"
  memory apply "$few"
  tapgate_down
  timed start_ms start "$MOST"
  memory start "$few"
}

# memory AFTER FEW: bytes that each of 100,000 addresses takes more than FEW KiB.
memory() {
  sleep 0.5
  echo "${1}_bytes $((($(resident) - $2) * 1024 / (2 * MOST)))" >>"$work/load"
}

# timed NAME COMMAND...: its time in milliseconds, into the load's results.
timed() {
  local began=${EPOCHREALTIME/./}
  "${@:2}" >/dev/null
  echo "$1 $(((${EPOCHREALTIME/./} - began) / 1000))" >>"$work/load"
}

# What the dataplane's memory is, in KiB.
resident() {
  awk '/^VmRSS/ { print $2 }' "/proc/$(pgrep -P "$router" | head -n 1)/status"
}

# measure WHO ADDRESSES COUNT MAC [FAMILY]: answers a second, into the results.
measure() {
  local family askers
  for family in ${5:-6 4}; do
    disturbance
    for askers in 1 2; do
      asked "$family" "$askers" "$3" "$4"
      echo "$1|$2|$family|$askers|$answered" >>"$results"
    done
  done
}

# Leaves the answers a second in $answered. The middle is measured: neighbours are resolved.
asked() {
  local from=$ASKER6 first=$FIRST6 pids=() i before began
  if [ "$1" = 4 ]; then from=$ASKER4 first=$FIRST4; fi
  count_answers "$4"
  for ((i = 0; i < $2; i++)); do
    ip netns exec "$ASKERNS" "$bin/asker" --dev a0 --from "$from" --first "$first" --count "$3" \
      --seconds $((SECONDS_EACH + 1)) >"$work/asked" &
    pids+=($!)
  done
  sleep 0.5
  before=$(answers "$1") began=${EPOCHREALTIME/./}
  sleep "$SECONDS_EACH"
  answered=$(((($(answers "$1") - before) * 1000000) / (${EPOCHREALTIME/./} - began)))
  wait "${pids[@]}"
}

# Answers from this MAC are counted, and dropped before the asker's own IP stack sees them.
count_answers() {
  ip netns exec "$ASKERNS" nft -f - <<NFT
table netdev sink
delete table netdev sink
table netdev sink {
  counter answers6 {}
  counter answers4 {}
  chain ingress {
    type filter hook ingress device "a0" priority 0;
    ether saddr $1 ether daddr $MAC_ASKER icmpv6 type nd-neighbor-advert @th,64,64 0x20010db800000001 counter name answers6 drop
    ether saddr $1 ether daddr $MAC_ASKER arp operation reply arp saddr ether $1 arp saddr ip 10.0.0.0/8 counter name answers4 drop
  }
}
NFT
}

answers() {
  ip netns exec "$ASKERNS" nft -j list counter netdev sink "answers$1" |
    jq '.nftables[].counter.packets // empty'
}

owned4() {
  seq 0 $(($1 - 1)) | awk '{ printf "10.%d.%d.%d\n", $1 / 65536, $1 / 256 % 256, $1 % 256 }'
}

owned6() {
  seq 0 $(($1 - 1)) | awk '{ printf "2001:db8:0:1::1:%x\n", $1 }'
}

# Until nothing is said on the link any more: reports of thousands of groups, announcements.
settle() {
  for _ in {1..20}; do
    [ "$(sink 0.5 | jq .frames)" -gt 5 ] || return 0
  done
}

# The best of all rounds, for each who, number of addresses, family and number of askers.
report() {
  awk -F'|' -v few="$FEW" -v many="$MANY" -v most="$MOST" -v bars="$bars" '
    function shown(n) { return n == "" ? "-" : sprintf("%.0f", n) }
    function ratio(n, family, other) {
      return best[other, n, family] > 0 ? best["tapgate", n, family] / best[other, n, family] : 0
    }
    function times(who, n, family) {
      if (best[who, n, family] == "" || best["kernel", n, family] == "") return "-"
      return sprintf("%.2f", best[who, n, family] / best["kernel", n, family])
    }
    function bar(text, is_met) {
      printf "%-58s %s\n", text, is_met ? "met" : "NOT MET" >bars
    }
    { if (!(($1, $2) in seen)) { seen[$1, $2] = ++rows; who[rows] = $1; n[rows] = $2 }
      if ($5 > by[$1, $2, $3, $4]) by[$1, $2, $3, $4] = $5
      if ($4 == 1 && $5 > best[$1, $2, $3]) best[$1, $2, $3] = $5 }
    END {
      line = "%-13s %11s %15s %9s %16s %9s %9s %6s\n"
      printf line, "", "addresses of", "NS answered/s", "", "ARP answered/s", "", "to kernel", ""
      printf line, "who", "each family", "one asker", "two", "one asker", "two", "NS", "ARP"
      for (i = 1; i <= rows; i++)
        printf line, who[i], n[i], shown(by[who[i], n[i], 6, 1]), shown(by[who[i], n[i], 6, 2]),
          shown(by[who[i], n[i], 4, 1]), shown(by[who[i], n[i], 4, 2]),
          times(who[i], n[i], 6), times(who[i], n[i], 4)
      print ""
      for (k = 1; k <= 2; k++) {
        at = k == 1 ? few : many
        for (family = 6; family >= 4; family -= 2)
          bar(sprintf("%s, %d addresses: %.2f of the kernel; at least 1", family == 6 ? "NS" : "ARP",
            at, ratio(at, family, "kernel")), ratio(at, family, "kernel") >= 1)
        rival = ratio(at, 6, "ndppd /64")
        if (best["ndppd /128", at, 6] > best["ndppd /64", at, 6]) rival = ratio(at, 6, "ndppd /128")
        bar(sprintf("NS, %d addresses: %.2f of ndppd; at least 3", at, rival), rival >= 3)
      }
      for (family = 6; family >= 4; family -= 2) {
        flat = best["tapgate", most, family] / best["tapgate", few, family]
        bar(sprintf("%s, %d addresses: %.2f of %d; at least 0.8", family == 6 ? "NS" : "ARP",
          most, flat, few), flat >= 0.8)
      }
    }' "$results"
  awk -v bars="$bars" '
    function bar(text, is_met) { printf "%-58s %s\n", text, is_met ? "met" : "NOT MET" >>bars }
    { if (!($1 in best) || $2 < best[$1]) best[$1] = $2 }
    END {
      bar(sprintf("check of 100,000 addresses: %d ms; under 1 s", best["check_ms"]), best["check_ms"] < 1000)
      bar(sprintf("apply of 100,000 addresses: %d ms; under 1 s", best["apply_ms"]), best["apply_ms"] < 1000)
      bar(sprintf("start with 100,000 addresses: %d ms; under 1 s", best["start_ms"]), best["start_ms"] < 1000)
      bar(sprintf("memory for each, applied: %d bytes; under 200", best["apply_bytes"]), best["apply_bytes"] < 200)
      bar(sprintf("memory for each, started: %d bytes; under 200", best["start_bytes"]), best["start_bytes"] < 200)
    }' "$work/load"
  cat "$bars"
}

main
