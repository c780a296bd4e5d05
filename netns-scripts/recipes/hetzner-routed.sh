#!/usr/bin/env bash
# The recipe of examples/hetzner-routed.toml: a host with a /32 and a gateway beyond it, one MAC for
# everything; three single IPv4 addresses that the provider asks for by ARP, a /29 and an IPv6
# prefix that it routes to the host. Each guest is alone on its segment. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=hetzner-routed, then netns-scripts/lab.sh vm ping -c 3 203.0.113.1
#
#   a (VM)     198.51.100.21                  2001:db8:77:0:a::1 --+
#   b (tap-b)  198.51.100.22, 192.0.2.8/30    2001:db8:77:0:b::1 --+ router --eth0---uplink-- provider ---- remote
#   c (veth)   198.51.100.23, 192.0.2.12/30   2001:db8:77:0:c::1 --+ 198.51.100.7    172.31.1.1    203.0.113.1
#   a has 10.0.1.1 by DHCP until it is installed.                    2001:db8:77::2  fe80::1       2001:db8:ffff::1

remote=203.0.113.1 remote6=2001:db8:ffff::1
provider=172.31.1.1
host=198.51.100.7 host6=2001:db8:77::2
nic_mac=02:00:00:00:00:01 # the only MAC that the provider lets in
guests=(a b c)
declare -gA kind=([a]=VM [b]=tap [c]=veth)
declare -gA device=([a]=eth0 [b]=tap-b [c]=eth0)
declare -gA port=([a]=vm-a [b]=port-b [c]=veth-c) # in the router
declare -gA own_mac=([a]=52:54:00:00:00:0a [b]=02:00:00:00:02:0b [c]=02:00:00:00:02:0c)
declare -gA private=([a]=10.0.1.1 [b]=10.0.2.1 [c]=10.0.3.1)
declare -gA gateway=([a]=10.0.1.254 [b]=10.0.2.254 [c]=10.0.3.254)
declare -gA public=([a]=198.51.100.21 [b]=198.51.100.22 [c]=198.51.100.23)
declare -gA public6=([a]=2001:db8:77:0:a::1 [b]=2001:db8:77:0:b::1 [c]=2001:db8:77:0:c::1)
# All eight of the /29, its first and its last too.
declare -gA of_the_29=([b]='192.0.2.8 192.0.2.9 192.0.2.10 192.0.2.11' [c]='192.0.2.12 192.0.2.13 192.0.2.14 192.0.2.15')
declare -gA iperf_port=()
assigned=("$nic_mac . $host" "$nic_mac . 192.0.2.8/29")
for guest in "${guests[@]}"; do assigned+=("$nic_mac . ${public[$guest]}"); done
assigned6=("$nic_mac . 2001:db8:77::/64" "$nic_mac . fe80::/10" "$nic_mac . ::")

provider_configure() {
  local guest
  inside provider sysctl -qw net.ipv6.conf.all.forwarding=1
  ip -n provider address add "$provider/32" dev uplink
  ip -n provider route add "$host" dev uplink src "$provider"
  for guest in "${guests[@]}"; do ip -n provider route add "${public[$guest]}" dev uplink src "$provider"; done
  ip -n provider route add 192.0.2.8/29 via "$host" dev uplink onlink
  ip -n provider address add fe80::1/64 dev uplink
  ip -n provider route add 2001:db8:77::/64 via fe80::ff:fe00:1 dev uplink
  ip -n provider address add 203.0.113.254/24 dev remote
  ip -n provider address add 2001:db8:ffff::fe/64 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote address add "$remote6/64" dev eth0
  ip -n remote route add default via 203.0.113.254
  ip -n remote route add default via 2001:db8:ffff::fe
}

# The host's own kernel.
host_configure() {
  ip -n router address add "$host/32" dev eth0
  ip -n router address add "$host6/128" dev eth0
  ip -n router route add "$provider" dev eth0
  ip -n router route add default via "$provider"
  ip -n router route add default via fe80::1 dev eth0
}

# guest_configure GUEST: its public addresses, once its NIC is there; each alone, as a /32, and the
# gateway beyond it.
guest_configure() {
  local nic=${device[$1]} extra=''
  for address in ${of_the_29[$1]-}; do extra+="ip address add $address/32 dev $nic;"; done
  guest_run "$1" "ip link set $nic up; ip address flush dev $nic scope global;
    ip address add ${public[$1]}/32 dev $nic; $extra ip -6 address add ${public6[$1]}/128 dev $nic;
    ip route add ${gateway[$1]} dev $nic; ip route add default via ${gateway[$1]} src ${public[$1]};
    ip -6 route replace default via fe80::1 dev $nic"
  guest_detected "$1"
  [[ -z $duplicates ]] || fail "$1's IPv6 address cannot be used: $duplicates"
}

# In the kernel's own commands: a route for each address, ARP proxies for those that the provider
# asks for, SNAT, a DHCP server, and filters against foreign sources.
kernel_configure() {
  local guest address
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.neigh.eth0.proxy_delay=0
  for guest in "${guests[@]}"; do
    local name=${port[$guest]}
    inside router sysctl -qw "net.ipv4.conf.$name.rp_filter=1"
    inside router ip6tables -t raw -A PREROUTING -i "$name" ! -s fe80::/10 -m rpfilter --invert -j DROP
    ip -n router address add "${gateway[$guest]}/24" dev "$name"
    ip -n router address add fe80::1/64 dev "$name"
    for address in ${public[$guest]} ${of_the_29[$guest]-}; do ip -n router route add "$address" dev "$name"; done
    ip -n router route add "${public6[$guest]%1}/80" dev "$name"
    ip -n router neighbour add proxy "${public[$guest]}" dev eth0
  done
  inside router iptables -t nat -A POSTROUTING -s 10.0.0.0/8 -o eth0 -j SNAT --to-source "$host"

  printf '%s\n' "interface ${port[a]}" "start ${private[a]}" "end ${private[a]}" "lease_file $state/udhcpd.leases" \
    'option subnet 255.255.255.0' "option router ${gateway[a]}" 'option dns 9.9.9.9' >"$state/udhcpd.conf"
  : >"$state/udhcpd.leases"
  inside router busybox udhcpd -f "$state/udhcpd.conf" >"$state/udhcpd.log" 2>&1 &
}
