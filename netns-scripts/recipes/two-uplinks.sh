#!/usr/bin/env bash
# The recipe of examples/two-uplinks.toml: two providers, which are one namespace here, and a host with a
# NIC at each. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=two-uplinks, then netns-scripts/lab.sh exec desk ping 192.0.2.1
#
#   desk (tap-desk) 192.168.1.1 --+ router --eth0----uplink-- provider ---- remote
#   lap  (VM)       192.168.1.2 --+   |  198.51.100.7   198.51.100.254     192.0.2.1
#                                     +-----eth1---uplink2------+
#                                        203.0.113.7    203.0.113.254

remote=192.0.2.1
first=198.51.100.7
second=203.0.113.7
provider=198.51.100.254
provider2=203.0.113.254
nic_mac=02:00:00:00:00:01
nic2_mac=02:00:00:00:00:02
guests=(desk lap)
declare -gA kind=([desk]=tap [lap]=VM)
declare -gA device=([desk]=tap-desk [lap]=eth0)
declare -gA port=([desk]=port-desk [lap]=vm-lap) # in the router
declare -gA own_mac=([lap]=52:54:00:00:00:01)
declare -gA address=([desk]=192.168.1.1 [lap]=192.168.1.2)
declare -gA iperf_port=()
lan=192.168.1.254
assigned=("02:00:00:00:00:0a . $first") # at the first; the kernel, and what is imported of it, have eth0's own MAC

provider_configure() {
  local ns
  for ns in provider remote router; do # their kernels say nothing of their own accord
    inside "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  done
  ip link add uplink2 netns provider type veth peer name eth1 address "$nic2_mac" netns router
  ip -n provider link set uplink2 up
  ip -n router link set eth1 up
  ip -n provider address add "$provider/24" dev uplink
  ip -n provider address add "$provider2/24" dev uplink2
  ip -n provider address add 192.0.2.254/24 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote route add default via 192.0.2.254
  [[ $dut == tapgate && -z ${CONFIGURATION-} ]] || assigned=("$nic_mac . $first")
}

# The host has no address of its own on the uplinks; but what is imported of the kernel shares its addresses.
host_configure() {
  [[ ${CONFIGURATION-} ]] || return 0
  ip -n router address add "$first/24" dev eth0
  ip -n router address add "$second/24" dev eth1
}

# guest_configure GUEST: addresses the NIC of a guest, once it is there.
guest_configure() {
  local nic=${device[$1]}
  guest_run "$1" "ip link set $nic up; ip address add ${address[$1]}/24 dev $nic; ip route add default via $lan"
}

# In the kernel's own commands. It takes a route out of use when its link is down, not when its gateway
# is silent.
kernel_configure() {
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 \
    net.ipv4.conf.default.send_redirects=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
    net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0 \
    net.ipv4.conf.all.ignore_routes_with_linkdown=1 net.ipv4.conf.eth0.ignore_routes_with_linkdown=1 \
    net.ipv4.conf.eth1.ignore_routes_with_linkdown=1 net.ipv4.fib_multipath_hash_policy=1
  ip -n router address add "$first/24" dev eth0
  ip -n router address add "$second/24" dev eth1
  ip -n router link add name lan type bridge
  ip -n router link set "${port[desk]}" master lan
  ip -n router link set "${port[lap]}" master lan
  ip -n router link set lan up
  ip -n router address add "$lan/24" dev lan
  ip -n router route add default via "$provider" dev eth0 metric 10
  ip -n router route add default via "$provider2" dev eth1 metric 20
  ip -n router route add default table 2 via "$provider2" dev eth1
  ip -n router route add default table 3 nexthop via "$provider" dev eth0 nexthop via "$provider2" dev eth1
  ip -n router rule add priority 90 fwmark 2 lookup 2
  ip -n router rule add priority 100 iif lan from "${address[lap]}" to 192.0.2.0/24 lookup 3
  inside router iptables-restore <<END
*mangle
-A PREROUTING -i eth1 -m conntrack --ctstate NEW -j CONNMARK --set-mark 2
-A PREROUTING -i lan -m connmark --mark 2 -j MARK --set-mark 2
COMMIT
*nat
-A PREROUTING -d $second/32 -p tcp -m tcp --dport 8022 -j DNAT --to-destination ${address[desk]}:22
-A POSTROUTING -s 192.168.1.0/24 -o eth0 -j MASQUERADE
-A POSTROUTING -s 192.168.1.0/24 -o eth1 -j MASQUERADE
COMMIT
END
}
