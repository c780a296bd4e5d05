#!/usr/bin/env bash
# The recipe of examples/ovh-ipv6.toml: an on-link IPv6 /64 that cannot be subdivided, its gateway
# outside it, inside the enclosing /56; one MAC and one IPv4 address, which the host's own kernel
# uses too. The provider resolves every address of the /64 by NDP, and probes what it knows every
# second or so, by unicast. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=ovh-ipv6, then netns-scripts/lab.sh vm ping -c 3 2001:db8:ffff::1
#
#   web  (VM)      192.168.1.10  …3401::10 --+ router 198.51.100.7  …3401::1
#   db   (tap-db)  192.168.1.11  …3401::11 --+    '--eth0---uplink-- provider ---- remote
#   mail (veth)    192.168.1.12  …3401::12 --+   198.51.100.254, …34ff:ff:ff:ff:ff  203.0.113.1, …ffff::1
#   db also owns …3401:b::/112

remote=203.0.113.1 remote6=2001:db8:ffff::1
provider=198.51.100.254 provider6=2001:db8:12:34ff:ff:ff:ff:ff
host=198.51.100.7 host6=2001:db8:12:3401::1
nic_mac=02:00:00:00:00:01 # the only MAC that the provider lets in
guests=(web db mail)
declare -gA kind=([web]=VM [db]=tap [mail]=veth)
declare -gA device=([web]=eth0 [db]=tap-db [mail]=eth0)
declare -gA port=([web]=vnet-web [db]=port-db [mail]=veth-mail) # in the router
declare -gA own_mac=([web]=52:54:00:00:00:01 [db]=02:00:00:00:01:02 [mail]=02:00:00:00:01:03)
declare -gA address=([web]=192.168.1.10 [db]=192.168.1.11 [mail]=192.168.1.12)
declare -gA public6=([web]=2001:db8:12:3401::10 [db]=2001:db8:12:3401::11 [mail]=2001:db8:12:3401::12)
declare -gA iperf_port=()
gateway=192.168.1.254 gateway6=fe80::1
db_prefix=2001:db8:12:3401:b::/112
assigned=("$nic_mac . $host")
[[ $dut != kernel ]] || assigned+=("$nic_mac . 0.0.0.0") # IGMP of the bridge, before it has an address
assigned6=("$nic_mac . 2001:db8:12:3401::/64" "$nic_mac . fe80::/10" "$nic_mac . ::")

provider_configure() {
  inside provider sysctl -qw net.ipv6.conf.all.forwarding=1 \
    net.ipv6.neigh.uplink.base_reachable_time_ms=1000 net.ipv6.neigh.uplink.delay_first_probe_time=1
  ip -n provider address add "$provider/24" dev uplink
  ip -n provider address add "$provider6/128" dev uplink
  ip -n provider route add 2001:db8:12:3401::/64 dev uplink
  ip -n provider address add 203.0.113.254/24 dev remote
  ip -n provider address add 2001:db8:ffff::fe/64 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote address add "$remote6/64" dev eth0
  ip -n remote route add default via 203.0.113.254
  ip -n remote route add default via 2001:db8:ffff::fe
}

# The host's own kernel: its address on eth0, or on the bridge that takes eth0's place.
host_configure() {
  [[ $dut == kernel ]] || host_addresses eth0
}

host_addresses() {
  ip -n router address add "$host/24" dev "$1"
  ip -n router address add "$host6/64" dev "$1"
  ip -n router route add default via "$provider"
  ip -n router route add 2001:db8:12:3400::/56 dev "$1"
  ip -n router route add default via "$provider6" dev "$1"
}

# guest_configure GUEST: addresses the NIC of a guest, once it is there, and waits until IPv6 has
# found no duplicate.
guest_configure() {
  guest_addresses "$1" "${public6[$1]}" "${address[$1]}"
  guest_detected "$1"
  [[ -z $duplicates ]] || fail "$1's IPv6 address cannot be used: $duplicates"
  [[ $dut != kernel ]] || kernel_proxy "$1"
}

# guest_addresses GUEST IPV6 [IPV4]
guest_addresses() {
  local nic=${device[$1]}
  # The IPv6 gateway is outside of the guest's prefix; a guest's kernel keeps no addresses of others.
  # mail's is the provider's, as it was behind the kernel's bridge.
  local gateway6=$gateway6
  [[ $1 != mail ]] || gateway6=$provider6
  guest_run "$1" "ip link set $nic up; ${3:+ip address add $3/24 dev $nic; ip route add default via $gateway;}
    ip -6 address add $2/128 dev $nic; ip -6 route replace $gateway6 dev $nic;
    ip -6 route replace default via $gateway6 dev $nic"
  [[ $1 != db ]] || {
    ip -n db address add 2001:db8:12:3401:b::1/128 dev lo
    ip -n db route add local "$db_prefix" dev lo
  }
}

# In the kernel's own commands: a bridge with the NIC and the guests, NDP proxies for the gateway and
# for each address, SNAT and DNAT.
kernel_configure() {
  gateway6=$provider6
  local guest
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.proxy_ndp=1 \
    net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
  ip -n router link add name br0 address "$nic_mac" type bridge
  ip -n router link set eth0 master br0
  for guest in "${guests[@]}"; do ip -n router link set "${port[$guest]}" master br0; done
  ip -n router link set br0 up
  inside router sysctl -qw net.ipv6.neigh.br0.proxy_delay=0
  host_addresses br0
  ip -n router address add "$gateway/24" dev br0
  ip -n router route add "$db_prefix" via "${public6[db]}" dev br0
  ip -n router neighbour add proxy "$provider6" dev br0
  inside router iptables -t nat -A POSTROUTING -s 192.168.1.0/24 ! -d 192.168.1.0/24 -j SNAT --to-source "$host"
  inside router iptables -t nat -A PREROUTING -d "$host" -p tcp --dport 2222 -j DNAT --to 192.168.1.10:22
  inside router iptables -t nat -A PREROUTING -d "$host" -p udp --dport 5353 -j DNAT --to 192.168.1.11:53
}

# kernel_proxy GUEST: the entry that makes the host answer for a guest. It also answers the guest's
# own duplicate-address probe, so it must not be there while the guest boots.
kernel_proxy() {
  ip -n router neighbour add proxy "${public6[$1]}" dev br0
  [[ $1 != db ]] || ip -n router neighbour add proxy 2001:db8:12:3401:b::1 dev br0
}
