# shellcheck shell=bash # sourced by lab.sh
# Scenario: snooping          a switch that passes multicast only to those who reported the group; any DUT
# The provider's side becomes a bridge with multicast snooping, a querier, and no flooding towards
# the router: a neighbour solicitation arrives only if its group was reported, and goes on arriving
# only if the queries are answered.
# Run: netns-scripts/lab.sh run snooping [DUT=kernel]

recipe ovh-ipv6

snooping() {
  topology_up
  switch_between
  router_start
  guest_configure db
  guest_configure mail
  asked_and_answered "at the start"
  # The bridge forgets a group 5 s after its last report.
  sleep 8
  asked_and_answered "after 4 queries"
  if [[ $dut == kernel ]]; then
    say router "expected of the kernel: its bridge passes the guests' own MACs and reports to the provider"
  else
    witness_check
  fi
}

# Turns the provider's uplink into a port of such a switch, whose own addresses are the provider's.
switch_between() {
  ip -n provider link add name switch type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 200 \
    mcast_query_response_interval 100 mcast_membership_interval 500 mcast_startup_query_interval 100
  inside provider sysctl -qw net.ipv6.conf.switch.accept_dad=0
  ip -n provider route delete 2001:db8:12:3401::/64 dev uplink
  ip -n provider address flush dev uplink
  ip -n provider link set uplink master switch
  ip -n provider link set switch up
  inside provider bridge link set dev uplink mcast_flood off
  ip -n provider address add "$provider/24" dev switch
  ip -n provider address add "$provider6/128" dev switch nodad
  ip -n provider route add 2001:db8:12:3401::/64 dev switch
  say provider "a switch that snoops, and floods nothing towards the router"
}

# asked_and_answered WHEN
asked_and_answered() {
  local guest group groups
  groups=$(inside provider bridge -j mdb show | jq -r '.[].mdb[]?.grp')
  for guest in db mail; do
    group=ff02::1:ff00:${public6[$guest]##*::}
    grep -qx "$group" <<<"$groups" || fail "$1 the switch does not know $group: ${groups//$'\n'/ }"
    ip -n provider neighbour flush to "${public6[$guest]}" dev switch
    inside remote ping -q -c 2 -i 0.2 -W 2 "${public6[$guest]}" >/dev/null ||
      fail "$1 $guest, asked for anew, is not reached"
  done
  ! grep -qx ff02::1:ff00:99 <<<"$groups" || fail "a group nobody has is reported"
  say provider "$1: groups reported, ${public6[db]} and ${public6[mail]} found by multicast"
}

snooping
