#!/usr/bin/env bash
# How long it takes until 1,000,000 routes in 1,000 tables and 10,000 rules are in force, in one run: `tapgate
# apply` of a TOML file, read and checked on the way, all of it or nothing; and the kernel with `ip -batch`,
# one after the other. Prints medians and the ratio.
#
#   netns-scripts/bench-load.sh [--quick] [--strict]
#
# Both then say which way a packet goes that the last rule and the last route are for. It happens in a network
# namespace of its own, which is removed at the end, and takes some 5 GiB of memory.
# Build as a user, run as root or with sudo.
set -euo pipefail
self=$(realpath "$0")
# shellcheck source=side-by-side.sh
source "$(dirname "$self")/side-by-side.sh"

rounds=3 strict='' arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --quick) rounds=1 ;;
    --strict) strict=yes ;;
    *) sed -n '2,/^set/{/^#/p}' "$self"; exit 64 ;;
  esac
  shift
done
readonly TABLES=1000 ROUTES=1000 RULES=10000 BAR=5
# What the last rule is for, and the last route of its table.
readonly FROM=100.39.15.7 TO=13.231.231.9

prepare "iproute2 jq" ip jq
readonly ROUTER=bench-$$-router

main() {
  trap remove EXIT
  trap 'exit 130' INT TERM
  local round started=$SECONDS
  files
  for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    kernel
    ours
  done
  machine "$rounds" "$started"
  report | tee "$work/report"
  [ -z "$strict" ] || ! grep -q 'NOT MET' "$work/report" || exit 2
}

# The same for both: table N has routes to prefixes of /24, and rules send sources there in turn.
files() {
  head_of_file >"$work/small.toml"
  {
    head_of_file
    echo '[tables]'
    routes | awk 'NR == 1 || $1 != table { if (NR > 1) print "]"; table = $1; print "t" table " = [" }
      { printf "  { to = \"%s\", dev = \"A\" },\n", $2 } END { print "]" }'
    printf '[routing]\nrules = [\n'
    rules | awk '{ printf "  { priority = %s, from = \"%s\", lookup = \"t%s\" },\n", $1, $2, $3 }'
    echo ']'
  } >"$work/large.toml"
  routes | awk '{ print "route add", $2, "via 192.0.2.1 dev eth0 table", 1000 + $1 }' >"$work/routes.batch"
  rules | awk '{ print "rule add priority", $1, "from", $2, "lookup", 1000 + $3 }' >"$work/rules.batch"
}

head_of_file() {
  cat <<TOML
[ports]
uplink = { device = "eth0" }
guest  = { device = "veth-a" }

[personalities]
A = { port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["192.0.2.2/24"], gateway = "192.0.2.1" }

[networks]
a = { ports = ["guest"], addresses = ["100.0.0.1/8"] }

TOML
}

routes() {
  awk -v tables=$TABLES -v routes=$ROUTES 'BEGIN { for (t = 0; t < tables; t++) for (r = 0; r < routes; r++)
    printf "%d %d.%d.%d.0/24\n", t, 10 + int(r / 256), r % 256, t % 256 }'
}

rules() {
  awk -v rules=$RULES -v tables=$TABLES 'BEGIN { for (n = 0; n < rules; n++)
    printf "%d 100.%d.%d.0/24 %d\n", n + 1, int(n / 256), n % 256, n % tables }'
}

topology_up() {
  namespace4 "$ROUTER"
  ip -n "$ROUTER" link add eth0 type veth peer name p0
  ip -n "$ROUTER" link set eth0 up
  ip -n "$ROUTER" link add veth-a type veth peer name g0
  ip -n "$ROUTER" link set veth-a up
  ip -n "$ROUTER" link set g0 up
}

kernel() {
  topology_up
  ip -n "$ROUTER" address add 192.0.2.2/24 dev eth0
  ip -n "$ROUTER" address add 100.0.0.1/8 dev veth-a
  ip netns exec "$ROUTER" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  timed kernel in_the_kernel
  ip -n "$ROUTER" -j route get "$TO" from "$FROM" iif veth-a |
    jq -e 'any(.[]; .gateway == "192.0.2.1")' >/dev/null || wrong kernel
  namespaces_down
}

in_the_kernel() {
  ip -n "$ROUTER" -batch "$work/routes.batch"
  ip -n "$ROUTER" -batch "$work/rules.batch"
}

ours() {
  topology_up
  tapgate_run "$work/small.toml"
  until grep -q ready: "$work/tapgate.log"; do
    kill -0 "$router" || { cat "$work/tapgate.log" >&2; exit 1; }
    sleep 0.1
  done
  timed tapgate "$tapgate" apply "$work/large.toml" --runtime-dir "$work/run"
  "$tapgate" explain --in guest --from "$FROM" --to "$TO" --json --runtime-dir "$work/run" >"$work/way" || true
  grep -q t999 "$work/way" && grep -q "13.231.231.0/24" "$work/way" || wrong tapgate
  tapgate_down
  namespaces_down
}

# timed WHO COMMAND...: how many seconds it takes.
timed() {
  local begun=$EPOCHREALTIME
  "${@:2}" >"$work/said" 2>&1 || { cat "$work/said" >&2; wrong "$1"; }
  awk -v who="$1" -v begun="$begun" -v ended="$EPOCHREALTIME" 'BEGIN { print who, ended - begun }' >>"$results"
}

wrong() {
  echo "bench: $1 does not have what was loaded" >&2
  [ ! -s "$work/way" ] || cat "$work/way" >&2
  exit 1
}

report() {
  local kernel tapgate
  kernel=$(median kernel) tapgate=$(median tapgate)
  awk -v kernel="$kernel" -v tapgate="$tapgate" -v bar=$BAR -v size="$(stat -c %s "$work/large.toml")" 'BEGIN {
    printf "kernel, ip -batch             %6.2f s\n", kernel
    printf "tapgate apply, %2.0f MiB of TOML %6.2f s, %.2f of that\n", size / 1048576, tapgate, tapgate / kernel
    printf "\nunder %d s: %s\n", bar, tapgate < bar ? "met" : "NOT MET"
  }'
}

median() {
  awk -v who="$1" '$1 == who { print $2 }' "$results" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

main
