#!/usr/bin/env bash
# DUT=kernel: the recipe that tapgate replaces, in the kernel's own commands. Sourced.
# Run: netns-scripts/lab.sh up DUT=kernel

# The recipe: a macvlan device, a table and a SNAT line for each public address.
router_start() {
  kind[guest-a]=veth # a TAP needs a process on its fd side, and the kernel alone has none
  veth_attach guest-a port-a
  veth_attach guest-b veth-b
  ip -n router tuntap add dev vm-c mode tap vnet_hdr
  ip -n router link set vm-c up

  # Or every device, eth0 too, answers ARP for every address and asks in the name of any.
  inside router sysctl -qw net.ipv4.ip_forward=1 \
    net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  local guest table=100 port
  for guest in "${guests[@]}"; do
    local name=${letter[$guest]}
    table=$((table + 1)) # ipA is 101, ipB 102, ipC 103
    ip -n router link add link eth0 name "$name" address "${mac[$guest]}" type macvlan mode bridge
    ip -n router address add "${public[$guest]}/32" dev "$name"
    ip -n router link set "$name" up
    ip -n router route add default via "$provider" dev "$name" onlink table $table
    ip -n router rule add from "${subnet[$guest]}" lookup $table pref $((59899 + table))
    ip -n router rule add from "${public[$guest]}" lookup $table pref $((59909 + table))
    inside router iptables -t nat -A POSTROUTING -s "${subnet[$guest]}" -o "$name" \
      -j SNAT --to-source "${public[$guest]}"
  done
  ip -n router route add unreachable default table 104
  ip -n router rule add lookup 104 pref 65000

  for port in guest-a:port-a guest-b:veth-b guest-c:vm-c; do
    ip -n router address add "${gateway[${port%:*}]}/24" dev "${port#*:}"
  done
}

router_state() {
  ip -n router rule
  ip -n router route show table all
  ip -n router neighbour
  inside router iptables -t nat -vnL POSTROUTING
}
