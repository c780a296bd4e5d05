#!/usr/bin/env bash
# The recipe of examples/single-address.toml: one address and one MAC for the host and three guests, in
# three zones. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=single-address, then netns-scripts/lab.sh exec desk ping 203.0.113.1
#
#   loc: desk (tap-desk) 192.168.1.1 --+
#        lap  (veth)     192.168.1.2 --+ router --eth0---uplink-- provider ---- remote
#   dmz: shop (VM)       192.168.2.1 --+ 198.51.100.7  198.51.100.254           203.0.113.1

remote=203.0.113.1
provider=198.51.100.254
host=198.51.100.7
nic_mac=02:00:00:00:00:01 # the only MAC that the provider lets in
guests=(desk lap shop)
declare -gA kind=([desk]=tap [lap]=veth [shop]=VM)
declare -gA device=([desk]=tap-desk [lap]=eth0 [shop]=eth0)
declare -gA port=([desk]=port-desk [lap]=veth-lap [shop]=vm-shop) # in the router
declare -gA own_mac=([shop]=52:54:00:00:00:01)
declare -gA address=([desk]=192.168.1.1 [lap]=192.168.1.2 [shop]=192.168.2.1)
declare -gA gateway=([desk]=192.168.1.254 [lap]=192.168.1.254 [shop]=192.168.2.254)
declare -gA iperf_port=()
assigned=("$nic_mac . $host")

provider_configure() {
  local ns
  for ns in provider remote router; do # their kernels say nothing of their own accord
    inside "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  done
  ip -n provider address add "$provider/24" dev uplink
  ip -n provider address add 203.0.113.254/24 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote route add default via 203.0.113.254
}

# The host's own kernel has the address too.
host_configure() {
  ip -n router address add "$host/24" dev eth0
  ip -n router route add default via "$provider"
}

# guest_configure GUEST: addresses the NIC of a guest, once it is there.
guest_configure() {
  local nic=${device[$1]}
  guest_run "$1" "ip link set $nic up; ip address add ${address[$1]}/24 dev $nic;
    ip route add default via ${gateway[$1]}"
}

# In the kernel's own commands: a bridge for loc, MASQUERADE and DNAT, a forward chain.
kernel_configure() {
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 \
    net.ipv4.conf.default.send_redirects=0
  ip -n router link add name loc type bridge
  ip -n router link set "${port[desk]}" master loc
  ip -n router link set "${port[lap]}" master loc
  ip -n router link set loc up
  ip -n router address add "${gateway[desk]}/24" dev loc
  ip -n router address add "${gateway[shop]}/24" dev "${port[shop]}"
  inside router iptables-restore <<END
*nat
-A PREROUTING -d $host/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination ${address[shop]}
-A POSTROUTING -s 192.168.0.0/16 -o eth0 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i eth0 -o ${port[shop]} -p tcp -m tcp --dport 80 -j ACCEPT
-A FORWARD -i loc -o ${port[shop]} -p tcp -m tcp --dport 80 -j ACCEPT
-A FORWARD -i loc -o ${port[shop]} -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -i ${port[shop]} -o eth0 -p tcp -m multiport --dports 53,80 -j ACCEPT
-A FORWARD -i ${port[shop]} -o eth0 -p udp -m multiport --dports 53,80 -j ACCEPT
-A FORWARD ! -i eth0 -p icmp -m icmp --icmp-type echo-request -j ACCEPT
-A FORWARD -i loc -o loc -j ACCEPT
-A FORWARD -i loc -o eth0 -j ACCEPT
-A FORWARD -i eth0 -j DROP
-A FORWARD -j REJECT --reject-with icmp-admin-prohibited
COMMIT
END
}
