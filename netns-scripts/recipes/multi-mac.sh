#!/usr/bin/env bash
# The recipe of examples/multi-mac.toml: a provider that ties each public address to one MAC, three
# guests that each leave by their own. Sourced.
# Run: netns-scripts/lab.sh up, then netns-scripts/lab.sh exec guest-a ping 198.51.100.1
#
#   guest-a (tap-a)  10.0.1.1 --+
#   guest-b (eth0)   10.0.2.1 --+ router --eth0---uplink-- provider ---- remote
#   guest-c (VM)     10.0.3.1 --+                 192.0.2.1              198.51.100.1

remote=198.51.100.1
provider=192.0.2.1
nic_mac=02:00:00:00:00:01 # the router's own NIC: no frame may wear it
guests=(guest-a guest-b guest-c)
declare -gA letter=([guest-a]=A [guest-b]=B [guest-c]=C)
declare -gA kind=([guest-a]=tap [guest-b]=veth [guest-c]=VM)
declare -gA device=([guest-a]=tap-a [guest-b]=eth0 [guest-c]=eth0)
declare -gA port=([guest-a]=port-a [guest-b]=veth-b [guest-c]=vm-c) # in the router
declare -gA own_mac=([guest-c]=02:00:00:00:03:01)
declare -gA mac=([guest-a]=02:00:00:00:00:aa [guest-b]=02:00:00:00:00:bb [guest-c]=02:00:00:00:00:cc)
declare -gA public=([guest-a]=203.0.113.10 [guest-b]=203.0.113.20 [guest-c]=203.0.113.30)
declare -gA subnet=([guest-a]=10.0.1.0/24 [guest-b]=10.0.2.0/24 [guest-c]=10.0.3.0/24)
declare -gA address=([guest-a]=10.0.1.1 [guest-b]=10.0.2.1 [guest-c]=10.0.3.1)
declare -gA gateway=([guest-a]=10.0.1.254 [guest-b]=10.0.2.254 [guest-c]=10.0.3.254)
declare -gA iperf_port=([guest-a]=5201 [guest-b]=5202 [guest-c]=5203)
assigned=()
for guest in "${guests[@]}"; do assigned+=("${mac[$guest]} . ${public[$guest]}"); done

provider_configure() {
  local ns guest
  for ns in provider remote router; do # their kernels say nothing of their own accord
    inside "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  done
  ip -n provider address add "$provider/24" dev uplink
  for guest in "${guests[@]}"; do
    ip -n provider route add "${public[$guest]}/32" dev uplink src "$provider"
  done
  ip -n provider address add 198.51.100.254/24 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote route add default via 198.51.100.254
}

# The host's own kernel has no address here.
host_configure() { :; }

# guest_configure GUEST: addresses the NIC of a guest, once it is there.
guest_configure() {
  local nic=${device[$1]}
  guest_run "$1" "ip link set $nic up &&
    ip address add ${address[$1]}/24 dev $nic &&
    ip route add default via ${gateway[$1]}"
}

# In the kernel's own commands: a macvlan device, a table and a SNAT line for each public address.
kernel_configure() {
  # Or every device, eth0 too, answers ARP for every address and asks in the name of any.
  inside router sysctl -qw net.ipv4.ip_forward=1 \
    net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  local guest table=100
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
  for guest in "${guests[@]}"; do
    ip -n router address add "${gateway[$guest]}/24" dev "${port[$guest]}"
  done
}
