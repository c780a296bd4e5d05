#!/usr/bin/env bash
# The recipe of examples/cloud-multiport.toml: a VM with two NICs in one subnet, which are two guests here,
# and two guests with a virtual address. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=cloud-multiport, then netns-scripts/lab.sh vm 'ip rule'
#
#   VM eth0 10.0.0.10, .12 --vm-one--+
#      eth1 10.0.0.11 -------vm-two--+ router --eth0---uplink-- provider ---- remote
#   ha-a    10.0.0.21 ---------------+   | 203.0.113.1, .10, .11, .12, .100  192.0.2.1
#   ha-b    10.0.0.22 ---------------+   +- 10.0.0.254

remote=192.0.2.1
provider=203.0.113.254
nic_mac=02:00:00:00:00:01
guests=(one two ha-a ha-b)
declare -gA kind=([one]=VM [two]=VM [ha-a]=tap [ha-b]=tap)
declare -gA device=([one]=eth0 [two]=eth1 [ha-a]=tap-ha-a [ha-b]=tap-ha-b)
declare -gA port=([one]=vm-one [two]=vm-two [ha-a]=port-ha-a [ha-b]=port-ha-b) # in the router
declare -gA own_mac=([one]=52:54:00:00:00:01 [two]=52:54:00:00:00:02)
declare -gA address=([one]=10.0.0.10 [two]=10.0.0.11 [ha-a]=10.0.0.21 [ha-b]=10.0.0.22)
declare -gA floating=([10.0.0.10]=203.0.113.10 [10.0.0.11]=203.0.113.11 [10.0.0.12]=203.0.113.12 [10.0.0.100]=203.0.113.100)
declare -gA iperf_port=()
subnet=10.0.0.254
extra=10.0.0.12
virtual=10.0.0.100
others=203.0.113.1 # of who has no floating address
out_mac=02:00:00:00:00:0a
assigned=("$out_mac . $others" "$out_mac . 203.0.113.10" "$out_mac . 203.0.113.11" "$out_mac . 203.0.113.12" "$out_mac . 203.0.113.100")

provider_configure() {
  local ns
  for ns in provider remote router; do # their kernels say nothing of their own accord
    inside "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  done
  ip -n provider address add "$provider/24" dev uplink
  ip -n provider address add 192.0.2.254/24 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote route add default via 192.0.2.254
}

host_configure() { :; } # the host has no address of its own on the uplink

# guest_configure GUEST: addresses the NIC of a guest. The VM has both NICs in one subnet: each answers for
# its own addresses alone, and what is from the second's leaves by it.
guest_configure() {
  local nic=${device[$1]} more="ip route add default via $subnet"
  case $1 in
    one) more+="; sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2; ip address add $extra/24 dev eth0" ;;
    two) more="ip route add default via $subnet dev eth1 table 2; ip rule add priority 100 from ${address[two]} lookup 2" ;;
  esac
  guest_run "$1" "ip link set $nic up; ip address add ${address[$1]}/24 dev $nic; $more" >/dev/null
}

# In the kernel's own commands: a bridge, which believes everybody, and a macvlan device.
kernel_configure() {
  local guest inside
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 \
    net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 # eth0 has none of the addresses
  ip -n router link add name net type bridge
  for guest in "${guests[@]}"; do ip -n router link set "${port[$guest]}" master net; done
  ip -n router link set net up
  ip -n router address add "$subnet/24" dev net
  ip -n router link add link eth0 name out address "$out_mac" type macvlan mode bridge
  ip -n router link set out up
  ip -n router address add "$others/24" dev out
  for inside in "${!floating[@]}"; do
    ip -n router address add "${floating[$inside]}/24" dev out
    inside router iptables -t nat -A PREROUTING -d "${floating[$inside]}" -j DNAT --to-destination "$inside"
    inside router iptables -t nat -A POSTROUTING -s "$inside" -o out -j SNAT --to-source "${floating[$inside]}"
  done
  inside router iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o out -j SNAT --to-source "$others"
  ip -n router route add default via "$provider"
}
