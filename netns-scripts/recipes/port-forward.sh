#!/usr/bin/env bash
# The recipe of examples/port-forward.toml: a host with an address, two more addresses for two web servers,
# each tied to a MAC of its own; a database that leaves by the host's. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=port-forward, then netns-scripts/lab.sh exec db ping 203.0.113.1
#
#   web1 (VM)       192.168.1.11 --+
#   web2 (tap-web2) 192.168.1.12 --+ router --eth0---uplink-- provider ---- remote
#   db   (veth)     192.168.1.20 --+ 198.51.100.7, .11, .12  .254           203.0.113.1, .2

remote=203.0.113.1 stranger=203.0.113.2
provider=198.51.100.254
host=198.51.100.7
nic_mac=02:00:00:00:00:01
guests=(web1 web2 db)
declare -gA kind=([web1]=VM [web2]=tap [db]=veth)
declare -gA device=([web1]=eth0 [web2]=tap-web2 [db]=eth0)
declare -gA port=([web1]=vm-web1 [web2]=port-web2 [db]=veth-db) # in the router
declare -gA own_mac=([web1]=52:54:00:00:00:01)
declare -gA address=([web1]=192.168.1.11 [web2]=192.168.1.12 [db]=192.168.1.20)
declare -gA public=([web1]=198.51.100.11 [web2]=198.51.100.12 [db]=198.51.100.7)
declare -gA mac=([web1]=02:00:00:00:00:11 [web2]=02:00:00:00:00:12 [db]=02:00:00:00:00:01)
declare -gA iperf_port=()
gateway=192.168.1.254
assigned=()
for guest in "${guests[@]}"; do assigned+=("${mac[$guest]} . ${public[$guest]}"); done

provider_configure() {
  local ns
  for ns in provider remote router; do # their kernels say nothing of their own accord
    inside "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  done
  ip -n provider address add "$provider/24" dev uplink
  ip -n provider address add 203.0.113.254/24 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote address add "$stranger/24" dev eth0
  ip -n remote route add default via 203.0.113.254 src "$remote"
}

# The host's own kernel has the first address too.
host_configure() {
  inside router sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  ip -n router address add "$host/24" dev eth0
  ip -n router route add default via "$provider"
}

# guest_configure GUEST: addresses the NIC of a guest, once it is there.
guest_configure() {
  local nic=${device[$1]}
  guest_run "$1" "ip link set $nic up; ip address add ${address[$1]}/24 dev $nic; ip route add default via $gateway"
}

# In the kernel's own commands: a bridge; a macvlan device and a table for each address; DNAT, SNAT
# and a forward chain.
kernel_configure() {
  local guest table=100
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 \
    net.ipv4.conf.default.send_redirects=0
  ip -n router link add name lan type bridge
  for guest in "${guests[@]}"; do ip -n router link set "${port[$guest]}" master lan; done
  ip -n router link set lan up
  ip -n router address add "$gateway/24" dev lan
  ip -n router rule add lookup main suppress_prefixlength 0 pref 100
  for guest in web1 web2; do
    table=$((table + 1)) # that of web1 is 101, of web2 102
    ip -n router link add link eth0 name "ip-$guest" address "${mac[$guest]}" type macvlan mode bridge
    ip -n router address add "${public[$guest]}/32" dev "ip-$guest"
    ip -n router link set "ip-$guest" up
    ip -n router route add default via "$provider" dev "ip-$guest" onlink table $table
    ip -n router rule add from "${address[$guest]}" lookup $table pref $table
  done
  inside router iptables-restore <<END
*nat
-A PREROUTING -d ${public[web1]}/32 -j DNAT --to-destination ${address[web1]}
-A PREROUTING -d ${public[web2]}/32 -j DNAT --to-destination ${address[web2]}
-A PREROUTING -s $remote/32 -d $host/32 -p tcp -m tcp --dport 2222 -j DNAT --to-destination ${address[db]}:22
-A POSTROUTING -s ${address[web1]}/32 -o ip-web1 -j SNAT --to-source ${public[web1]}
-A POSTROUTING -s ${address[web2]}/32 -o ip-web2 -j SNAT --to-source ${public[web2]}
-A POSTROUTING -s 192.168.1.0/24 -o eth0 -j MASQUERADE
-A POSTROUTING -s ${address[web1]}/32 -o lan -m conntrack --ctstate DNAT -j SNAT --to-source ${public[web1]}
-A POSTROUTING -s ${address[web2]}/32 -o lan -m conntrack --ctstate DNAT -j SNAT --to-source ${public[web2]}
-A POSTROUTING -s 192.168.1.0/24 -o lan -m conntrack --ctstate DNAT -j SNAT --to-source $host
COMMIT
*filter
:FORWARD DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i lan -j ACCEPT
-A FORWARD -d ${address[web1]}/32 -o lan -m conntrack --ctstate DNAT -p tcp -m multiport --dports 80,443 -j ACCEPT
-A FORWARD -d ${address[web2]}/32 -o lan -m conntrack --ctstate DNAT -p tcp -m multiport --dports 80,443 -j ACCEPT
-A FORWARD -d ${address[web1]}/32 -o lan -m conntrack --ctstate DNAT -p icmp -m icmp --icmp-type echo-request -j ACCEPT
-A FORWARD -d ${address[web2]}/32 -o lan -m conntrack --ctstate DNAT -p icmp -m icmp --icmp-type echo-request -j ACCEPT
-A FORWARD -s $remote/32 -d ${address[db]}/32 -o lan -m conntrack --ctstate DNAT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
END
}
