# shellcheck shell=bash # sourced by lab.sh
# Scenario: soak              three honest guests beside one that attacks, and a hostile neighbour of the provider; any DUT
# The attacker does everything at once (tests/src/bin/attack.rs), 100,000 frames a second; honest guests
# must not notice. SOAK_SECONDS (60) says how long, SOAK_RATE the attacker's frames a second. With
# DUT=kernel what is lost is only reported.
# Run: netns-scripts/lab.sh run soak [DUT=kernel]
#
#   h1   (tap-h1) 10.0.1.1  …12:1:1::1                --+
#   h2   (veth)   10.0.1.2  …12:1:2::1  203.0.113.22  --+ lan --+
#   evil (veth)   10.0.1.66 …12:1:e::1                --+       router --eth0---uplink-- provider ---- remote
#   h3   (veth)   10.0.2.3  …12:1:3::1  -------------- far -----+  A, B   …12:1::fe, 192.0.2.1    198.51.100.1

remote=198.51.100.1 remote6=2001:db8:ffff::1
provider=192.0.2.1 provider6=2001:db8:12:1::fe prefix6=2001:db8:12:1
nic_mac=02:00:00:00:00:01
guests=(h1 h2 h3 evil)
honest=(h1 h2 h3)
declare -gA kind=([h1]=tap [h2]=veth [h3]=veth [evil]=veth)
declare -gA device=([h1]=tap-h1 [h2]=eth0 [h3]=eth0 [evil]=eth0)
declare -gA port=([h1]=port-h1 [h2]=veth-h2 [h3]=veth-h3 [evil]=veth-evil) # in the router
declare -gA own_mac=([h1]=02:00:00:00:01:01 [h2]=02:00:00:00:01:02 [h3]=02:00:00:00:01:03 [evil]=02:00:00:00:01:66)
declare -gA address=([h1]=10.0.1.1 [h2]=10.0.1.2 [h3]=10.0.2.3 [evil]=10.0.1.66)
declare -gA gateway=([h1]=10.0.1.254 [h2]=10.0.1.254 [h3]=10.0.2.254 [evil]=10.0.1.254)
declare -gA public6=([h1]=$prefix6:1::1 [h2]=$prefix6:2::1 [h3]=$prefix6:3::1 [evil]=$prefix6:e::1)
mac_a=02:00:00:00:00:aa mac_b=02:00:00:00:00:bb mac_lan=02:00:00:00:00:fe
public_a=203.0.113.10 public_a2=203.0.113.11 public_b=203.0.113.30 public_h2=203.0.113.22
assigned=("$mac_a . $public_a" "$mac_a . $public_a2" "$mac_a . $public_h2" "$mac_b . $public_b")
assigned6=("$mac_a . $prefix6::/64" "$mac_a . fe80::/10" "$mac_a . ::" "$mac_b . fe80::/10" "$mac_b . ::")
seconds=${SOAK_SECONDS:-60} rate=${SOAK_RATE:-100000}
rows=() wrong=0
# What does not hold yet: new flows of other guests when one has filled the session table.
not_yet=()

provider_configure() {
  local address
  inside provider sysctl -qw net.ipv6.conf.all.forwarding=1
  ip -n provider address add $provider/24 dev uplink
  ip -n provider address add $provider6/64 dev uplink
  for address in $public_a $public_a2 $public_b $public_h2; do ip -n provider route add "$address" dev uplink src $provider; done
  ip -n provider address add 198.51.100.254/24 dev remote
  ip -n provider address add 2001:db8:ffff::fe/64 dev remote
  # What goes to nobody ends here, and nobody is told.
  ip -n provider route add blackhole default
  ip -n provider -6 route add blackhole default
  ip -n remote address add $remote/24 dev eth0
  ip -n remote address add $remote6/64 dev eth0
  ip -n remote route add default via 198.51.100.254
  ip -n remote route add default via 2001:db8:ffff::fe
}

# The host's own kernel says nothing.
host_configure() {
  [[ $dut == kernel ]] || inside router sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
}

configuration_write() {
  cat >"$1" <<END
[ports]
uplink = { device = "eth0", mtu = 1400 }
h1   = { tap = "tap-h1", netns = "h1", mac = "${own_mac[h1]}" }
h2   = { device = "veth-h2" }
h3   = { device = "veth-h3" }
evil = { device = "veth-evil" }
$2
[personalities]
A = { port = "uplink", mac = "$mac_a", addresses = ["$public_a/32", "$public_a2/32", "$prefix6::1/64"], gateway = ["$provider", "$provider6"], onlink = true }
B = { port = "uplink", mac = "$mac_b", addresses = ["$public_b/32"], gateway = "$provider", onlink = true }

[networks]
lan = { ports = ["h1", "h2", "evil"${3-}], addresses = ["10.0.1.254/24"], mac = "$mac_lan", dhcp = { lease = 60 }, ra = { interval = 4 } }
far = { ports = ["h3"], addresses = ["10.0.2.254/24"], dhcp = { lease = 60 }, ra = { interval = 4 } }

[guests] # evil without brakes, so that it meets the tables' limits
h1   = { port = "h1", addresses = ["10.0.1.1"], public = ["$prefix6:1::/80"], personality = "A" }
h2   = { port = "h2", mac = "${own_mac[h2]}", addresses = ["10.0.1.2"], public = ["$public_h2", "$prefix6:2::/80"], personality = "A" }
h3   = { port = "h3", mac = "${own_mac[h3]}", addresses = ["10.0.2.3"], public = ["$prefix6:3::/80"], personality = "A" }
evil = { port = "evil", mac = "${own_mac[evil]}", addresses = ["10.0.1.66"], public = ["$prefix6:e::/80"], personality = "A", groups = ["crowd"], limits = { new_destinations_per_second = 1000000, unanswered_syns = 1000000 }, bandwidth = { out = "2Gbit/s", in = "2Gbit/s" } }

[tables]
main = [{ to = "default", dev = "A" }, { to = "::/0", dev = "A" }]
b = [{ to = "default", dev = "B" }]

[routing]
rules = [{ priority = 100, from = "10.0.2.0/24", lookup = "b" }]

[nat]
snat = [
  { from = "10.0.1.66", to = "$public_a", filtering = "endpoint-independent", except = ["203.0.113.200"] },
  { from = "10.0.1.2", to = "$public_a2", mapping = "endpoint-dependent" },
  { from = "10.0.1.0/24", to = "$public_a", filtering = "address-dependent" },
  { from = "10.0.2.0/30", dev = "B", block = 16000 },
]
one_to_one = [{ inside = "fd00:1::/64", outside = "2001:db8:77::/64", dev = "A" }]
forward = [
  { address = "$public_a", proto = "tcp", port = "8000-8099", to = ["10.0.1.1", "10.0.1.2"] },
  { address = "$public_b", proto = "udp", port = 5353, to = "10.0.2.3:53", from = ["$remote"] },
]

[policy]
zones = { inside = ["lan", "far"], net = ["A", "B"] }
sets = { bad = ["203.0.113.240/28", "2001:db8:bad::/48"] }
rules = [
  { action = "drop", source = "bad" },
  { action = "reject", from = "inside", to = "net", proto = "tcp", port = 25, log = true },
  { action = "accept", from = "net", to = "inside", proto = "icmp", icmp_type = "echo-request", rate = 5000, mark = 7 },
  { action = "accept", from = "net", to = "inside", proto = "tcp", port = "8000-8099", connections = 50 },
  { action = "accept", from = "inside", to = "net", mark = 1 },
]
groups = { crowd = { in = [{ action = "accept", proto = ["icmp", "udp"] }] } }
default = [{ action = "drop", from = "net" }, { action = "accept" }]
END
}

# The same in the kernel's own commands, without policy and with one kind of NAT; addresses are written down in the guests.
kernel_configure() {
  local guest
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  ip -n router link set eth0 mtu 1400
  ip -n router link add br0 address $mac_lan type bridge
  for guest in h1 h2 evil; do
    ip -n router link set "${port[$guest]}" master br0
    bridge -n router link set dev "${port[$guest]}" isolated on
  done
  ip -n router link set br0 up
  ip -n router link add link eth0 name A address $mac_a type macvlan mode bridge
  ip -n router link add link eth0 name B address $mac_b type macvlan mode bridge
  ip -n router address add $public_a/32 dev A
  ip -n router address add $public_a2/32 dev A
  ip -n router address add $prefix6::1/64 dev A
  ip -n router address add $public_b/32 dev B
  ip -n router link set A up
  ip -n router link set B up
  ip -n router route add default via $provider dev A onlink
  ip -n router route add default via $provider dev B onlink table 101
  ip -n router route add default via $provider6 dev A
  ip -n router rule add from 10.0.2.0/24 lookup 101 pref 100
  ip -n router address add 10.0.1.254/24 dev br0
  ip -n router address add 10.0.2.254/24 dev veth-h3
  ip -n router route add $public_h2 dev br0
  inside router sysctl -qw net.ipv6.conf.A.proxy_ndp=1 net.ipv4.conf.A.proxy_arp=1
  for guest in "${guests[@]}"; do
    local at=br0
    [[ $guest != h3 ]] || at=veth-h3
    ip -n router route add "${public6[$guest]%1}/80" dev $at
    ip -n router neighbour add proxy "${public6[$guest]}" dev A
  done
  ip -n router address add fe80::1/64 dev br0
  ip -n router address add fe80::1/64 dev veth-h3
  inside router iptables -t nat -A POSTROUTING -s 10.0.1.0/24 -o A -j SNAT --to-source $public_a
  inside router iptables -t nat -A POSTROUTING -s 10.0.2.0/24 -o B -j SNAT --to-source $public_b
}

soak() {
  local guest dataplane='' router_mac
  need_tool attack && need_tool honest && need_tool flow
  configuration=$state/soak.toml
  configuration_write "$configuration" ''
  configuration_write "$state/later.toml" 'later = { device = "veth-later" }' ', "later"'
  printf '[ports]\nuplink = { device = "eth0" }\n' >"$state/empty.toml"
  topology_up
  router_start
  for guest in "${guests[@]}"; do guest_up "$guest"; done
  servers_start
  for guest in "${honest[@]}"; do
    { pings "$guest" 10 && pings "$guest" 10 $remote6; } 2>/dev/null || fail "$guest has no connection before the test"
  done
  pings evil 5 || fail "evil has no connection before the test"
  router_mac=$(ip -n evil -j neighbour show "${gateway[evil]}" | jq -r '.[0].lladdr')
  [[ $dut == kernel ]] || dataplane=$(dataplane_pid)

  for guest in "${honest[@]}"; do guest_work "$guest"; done
  outside_work
  sleep 2
  say evil "sends $rate frames a second for $seconds s"
  attack evil guest eth0 "${own_mac[evil]}" "${address[evil]}" "${public6[evil]}" "$router_mac" \
    "${gateway[evil]}" "${address[h1]}" "${public6[h1]}" $remote --rate "$rate" --seed 1
  say provider "a neighbour sends $((rate / 10)) frames a second"
  attack provider neighbour uplink 02:00:00:00:66:01 192.0.2.66 2001:db8:ffff::66 $mac_a \
    $provider $public_a "$prefix6:1::1" $remote --rate $((rate / 10)) --seed 2
  watch_it
  guests_judge
  [[ $dut == kernel ]] || router_judge "$dataplane"
  print_table '%-9s %-30s %-32s %-14s' who what found wanted
  ((wrong == 0)) || [[ $dut == kernel ]] || fail "$wrong of what was checked did not pass"
}

# guest_up GUEST: its addresses, by DHCP and router advertisement where there are such.
guest_up() {
  local nic=${device[$1]}
  inside "$1" sysctl -qw net.ipv6.conf.all.accept_dad=0 "net.ipv6.conf.$nic.accept_dad=0" "net.ipv6.conf.$nic.accept_ra=1" \
    "net.ipv6.conf.$nic.router_solicitation_interval=1"
  ip -n "$1" link set "$nic" up
  if [[ $dut == kernel || $1 == evil ]]; then
    ip -n "$1" address add "${address[$1]}/24" dev "$nic"
    ip -n "$1" route add default via "${gateway[$1]}"
  else
    # Not `inside`: $! must be the client's own process.
    ip netns exec "$1" busybox udhcpc -f -i "$nic" -t 5 -T 1 -s "$here/udhcpc.sh" >"$state/dhcp.$1" 2>&1 &
    dhcp_pids[$1]=$!
  fi
  ip -n "$1" address add "${public6[$1]}/128" dev "$nic" nodad
  [[ $dut != kernel ]] || ip -n "$1" route add default via fe80::1 dev "$nic"
  [[ $1 != h2 ]] || ip -n h2 address add $public_h2/32 dev eth0
}
declare -gA dhcp_pids=()

servers_start() {
  local at
  for at in "$remote" "[$remote6]"; do
    inside remote "$tools/flow" serve "$at:7000" 2>/dev/null &
    listening remote "src $at:7000"
  done
}

# guest_work GUEST: all that it does until a little after the attack.
guest_work() {
  local time=$((seconds + 6)) what
  inside "$1" "$tools/honest" $remote:7000 --seconds $time >"$state/honest.$1.4" 2>&1 &
  pids[$1.honest4]=$!
  inside "$1" "$tools/honest" "[$remote6]:7000" --seconds $time >"$state/honest.$1.6" 2>&1 &
  pids[$1.honest6]=$!
  for what in 'upload 4' 'download 4' 'echo 50'; do
    inside "$1" "$tools/flow" "${what% *}" $remote:7000 --seconds $time --rate "${what#* }" \
      >"$state/flow.$1.${what% *}" 2>&1 &
    pids[$1.${what% *}]=$!
  done
  inside "$1" ping -q -i 0.1 -c $((time * 10 - 20)) -W 1 $remote >"$state/ping.$1.4" 2>&1 &
  pids[$1.ping4]=$!
  inside "$1" ping -q -i 0.1 -c $((time * 10 - 20)) -W 1 $remote6 >"$state/ping.$1.6" 2>&1 &
  pids[$1.ping6]=$!
}
declare -gA pids=()

# Somebody out there pings what the guests have outside.
outside_work() {
  local count=$((seconds * 10 + 40))
  inside remote ping -q -i 0.1 -c $count -W 1 $public_h2 >"$state/ping.remote.4" 2>&1 &
  pids[remote.ping4]=$!
  inside remote ping -q -i 0.1 -c $count -W 1 "${public6[h1]}" >"$state/ping.remote.6" 2>&1 &
  pids[remote.ping6]=$!
}

# attack NAMESPACE ARGUMENTS...: behind everybody else in the queue for the processors.
attack() {
  local where=$1
  shift
  nice -n 5 ip netns exec "$where" "$tools/attack" "$@" --seconds "$seconds" >"$state/attack.$where" 2>&1 &
  pids[$where.attack]=$!
}

# Until the attack ends: the dataplane's memory every second, a renewal of each lease every five, and
# after a third of the time an `apply` that adds a port.
watch_it() {
  local second guest pid
  : >"$state/memory"
  for ((second = 0; second < seconds; second++)); do
    sleep 1
    [[ $dut != kernel ]] || continue
    pid=$(dataplane_pid) && awk '/^VmRSS/ { print $2 }' "/proc/$pid/status" >>"$state/memory"
    ((second % 5)) || for guest in "${honest[@]}"; do kill -USR1 "${dhcp_pids[$guest]}"; done
    if ((second == seconds / 3)); then
      tapgate_ask apply "$state/later.toml" >"$state/apply.log" 2>&1 || { cat "$state/apply.log"; wrong=$((wrong + 1)); }
      say router "a port more, by apply"
    fi
  done
}

# expect WHO WHAT FOUND WANTED GOOD: a row of the table. GOOD is 1 or 0. Empty `not_yet` when all holds.
expect() {
  local verdict=ok pattern
  (($5)) || verdict=WRONG wrong=$((wrong + 1))
  for pattern in "${not_yet[@]}"; do
    # shellcheck disable=SC2053 # a pattern it is
    [[ $verdict != WRONG || $2 != $pattern ]] || verdict='not yet' wrong=$((wrong - 1))
  done
  rows+=("$1|$2|$3|$4|$verdict")
}

guests_judge() {
  local guest family what status report
  begin guests "end their work"
  for what in "${!pids[@]}"; do
    status=0
    wait "${pids[$what]}" || status=$?
    pids[$what]=$status
  done
  for guest in "${honest[@]}"; do
    for family in 4 6; do
      report=$(cat "$state/honest.$guest.$family")
      if [[ $report =~ lines=([0-9]+)\ broken=([0-9]+)\ slowest_ms=([0-9]+)\ connects=([0-9]+)\ refused=([0-9]+)\ asked=([0-9]+)\ unanswered=([0-9]+) ]]; then
        local of=("${BASH_REMATCH[@]:1}")
        expect "$guest" "IPv$family connection" "${of[0]} lines, broken ${of[1]}, ${of[2]} ms" 'broken 0' $((of[1] == 0 && of[0] > 0))
        expect "$guest" "IPv$family new connections" "${of[4]} of ${of[3]} failed" 'none' $((of[4] == 0 && of[3] > 0))
        expect "$guest" "IPv$family questions" "${of[6]} of ${of[5]} unanswered" 'under 1 %' $((of[6] * 100 < of[5]))
      else
        expect "$guest" "IPv$family work" "${report:0:32}" 'a report' 0
      fi
      ping_judge "$guest" "$guest.$family" "IPv$family pings"
    done
    for what in upload download; do
      report=$(tail -n 1 "$state/flow.$guest.$what")
      [[ $report =~ gap_ms=([0-9]+) ]] || BASH_REMATCH=('' 999999)
      expect "$guest" "TCP $what of 4 Mbit/s" "${report#received=}" 'gap under 5 s' \
        $((pids[$guest.$what] == 0 && BASH_REMATCH[1] < 5000))
    done
    report=$(tail -n 1 "$state/flow.$guest.echo")
    [[ $report =~ received=([0-9]+)\ lost=([0-9]+) ]] || BASH_REMATCH=('' 0 1)
    expect "$guest" 'UDP flow' "${report#received=}" 'under 1 % lost' \
      $((BASH_REMATCH[2] * 100 < BASH_REMATCH[1] + BASH_REMATCH[2]))
    [[ $dut == kernel ]] || {
      report=$(grep -c 'obtained' "$state/dhcp.$guest" || true)
      expect "$guest" 'DHCP renewals' "$report in $seconds s" "$((seconds / 6)) or more" $((report >= seconds / 6))
    }
  done
  ping_judge remote remote.4 'pings to h2, IPv4'
  ping_judge remote remote.6 'pings to h1, IPv6'
  report=$(paste -sd ' ' "$state/attack.evil")
  [[ $report =~ a_second=([0-9]+) ]] || BASH_REMATCH=('' 0)
  expect evil 'attacks' "$report" "$((rate * 9 / 10)) or more" $((BASH_REMATCH[1] >= rate * 9 / 10))
  expect neighbour 'attacks' "$(paste -sd ' ' "$state/attack.provider")" '' 1
}

# Where there are no interfaces all sessions end: then nothing is held any more.
leaks_judge() {
  local deadline=$((SECONDS + 15)) left
  tapgate_ask apply "$state/empty.toml" >"$state/empty.log" 2>&1 || cat "$state/empty.log"
  until left=$(tapgate_ask show counters --json |
    jq -r 'map(select(.name | IN("sessions", "nat_ports_held"))) | map("\(.name) \(.value)") | join(", ")') &&
    [[ $left == *"sessions 0"* && $left == *"nat_ports_held 0"* ]]; do
    ((SECONDS < deadline)) || break
    sleep 0.2
  done
  expect router 'left when all are ended' "$left" '0' $((SECONDS < deadline))
}

# ping_judge WHO FILE WHAT
ping_judge() {
  local report
  report=$(grep 'packets transmitted' "$state/ping.$2" || true)
  [[ $report =~ ([0-9]+)\ packets\ transmitted,\ ([0-9]+)\ received ]] || BASH_REMATCH=('' 1 0)
  local sent=${BASH_REMATCH[1]} lost=$((BASH_REMATCH[1] - BASH_REMATCH[2]))
  expect "$1" "$3" "$lost of $sent lost" 'under 1 %' $((lost * 100 < sent))
}

# router_judge PID: the dataplane that there was at first, its memory, its books.
router_judge() {
  local early late name
  expect router 'the same dataplane' "$(dataplane_pid)" "$1" $(($(dataplane_pid) == $1))
  expect router 'panics' "$(grep -c panicked "$state/tapgate.log" || true)" 0 $((! $(grep -c panicked "$state/tapgate.log" || true)))
  # A quarter of the time to grow; then the most is little more than it was.
  early=$(awk -v until=$((seconds / 4)) 'NR <= until && $1 > most { most = $1 } END { print most + 0 }' "$state/memory")
  late=$(sort -n "$state/memory" | tail -n 1)
  expect router 'memory, KiB' "$early after a quarter, $late" '5 % more' $((late * 100 <= early * 105))
  name=$(tapgate_ask show guests --json | jq -r 'max_by(.violations | add // 0) | "\(.name) \(.violations | add // 0)"')
  expect router 'most violations' "$name" 'evil' $((${name##* } > 0 && 0 == $([[ $name == evil\ * ]]; echo $?)))
  expect router 'drops' "$(tapgate_ask show drops --json | jq 'map(select(.frames > 0)) | length') reasons" 'some' 1
  say router "drops: $(tapgate_ask show drops --json |
    jq -r 'sort_by(-.frames) | map("\(.reason) \(.frames)") | .[:12] | join(", ")')"
  leaks_judge
  local faults
  faults=$(witness_faults)
  expect provider 'frames it has not assigned' "$(grep -c . <<<"$faults" || true)" 0 $(($(grep -c . <<<"$faults" || true) == 0))
  [[ -z $faults ]] || say provider "$faults"
}

soak
