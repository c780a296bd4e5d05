#!/usr/bin/env bash
# The recipe of examples/bridged.toml: a provider that ties each address to one MAC and is the gateway
# itself; two guests on its segment with pairs of their own, and one that is routed beside them. Sourced.
# Run: netns-scripts/lab.sh up RECIPE=bridged, then netns-scripts/lab.sh vm ping -c 3 198.51.100.1
#
#   web (VM)      203.0.113.21  2001:db8:9::21 --+
#   db  (tap-db)  203.0.113.22  2001:db8:9::22 --+--eth0---uplink-- provider ----- remote
#   inside (veth) 10.0.0.1      2001:db8:9::23 --+  203.0.113.1    198.51.100.1
#                 seen as 203.0.113.10              fe80::99       2001:db8:ffff::1

remote=198.51.100.1 remote6=2001:db8:ffff::1
provider=203.0.113.1 provider6=fe80::99
nic_mac=02:00:00:00:00:01 # the router's own NIC: no frame may wear it
router_mac=02:00:00:00:00:aa router=203.0.113.10 router6=2001:db8:9::10
guests=(web db inside)
bridged=(web db)
declare -gA kind=([web]=VM [db]=tap [inside]=veth)
declare -gA device=([web]=eth0 [db]=tap-db [inside]=eth0)
declare -gA port=([web]=vnet-web [db]=port-db [inside]=veth-inside) # in the router
declare -gA own_mac=([web]=52:54:00:00:00:0a [db]=02:00:00:00:02:0b)
declare -gA mac=([web]=52:54:00:00:00:0a [db]=02:00:00:00:02:0b [inside]=$router_mac) # on the uplink
declare -gA public=([web]=203.0.113.21 [db]=203.0.113.22 [inside]=$router)
declare -gA public6=([web]=2001:db8:9::21 [db]=2001:db8:9::22 [inside]=2001:db8:9::23)
declare -gA link_local=([web]=fe80::5054:ff:fe00:a [db]=fe80::ff:fe00:20b [inside]=fe80::ff:fe00:aa)
declare -gA iperf_port=([web]=5201 [db]=5202 [inside]=5203)
# Before there is an address: DHCP, duplicate detection, multicast listener reports.
assigned=() assigned6=("$router_mac . $router6")
for guest in "${guests[@]}"; do
  assigned+=("${mac[$guest]} . ${public[$guest]}")
  assigned6+=("${mac[$guest]} . ${public6[$guest]}" "${mac[$guest]} . ${link_local[$guest]}" "${mac[$guest]} . ::")
done
for guest in "${bridged[@]}"; do assigned+=("${mac[$guest]} . 0.0.0.0"); done

provider_configure() {
  # The router's kernel says nothing of its own accord.
  inside router sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  inside provider sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 net.ipv4.conf.uplink.send_redirects=0
  ip -n provider address add "$provider/24" dev uplink
  ip -n provider address add "$provider6/64" dev uplink
  ip -n provider route add 2001:db8:9::/64 dev uplink
  ip -n provider address add 198.51.100.254/24 dev remote
  ip -n provider address add 2001:db8:ffff::fe/64 dev remote
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote address add "$remote6/64" dev eth0
  ip -n remote route add default via 198.51.100.254
  ip -n remote route add default via 2001:db8:ffff::fe
}

# The host's own kernel has no address here.
host_configure() { :; }

# guest_configure GUEST: addresses the NIC of a guest, once it is there. To db everything is beyond its
# gateway; web has its neighbours on the link.
guest_configure() {
  local nic=${device[$1]}
  case $1 in
    web) guest_run web "ip link set $nic up; ip address add ${public[web]}/24 dev $nic; ip route add default via $provider;
      ip -6 address add ${public6[web]}/64 dev $nic; ip -6 route add default via $provider6 dev $nic" ;;
    db) guest_run db "ip link set $nic address ${own_mac[db]}; ip link set $nic up; ip address add ${public[db]}/32 dev $nic;
      ip route add $provider dev $nic; ip route add default via $provider;
      ip -6 address add ${public6[db]}/128 dev $nic; ip -6 route add default via $provider6 dev $nic" ;;
    inside) guest_run inside "ip link set $nic up; ip address add 10.0.0.1/24 dev $nic; ip route add default via 10.0.0.254;
      ip -6 address add ${public6[inside]}/128 dev $nic; ip -6 route replace default via fe80::1 dev $nic" ;;
  esac
  guest_detected "$1"
  [[ -z $duplicates ]] || fail "$1's IPv6 address cannot be used: $duplicates"
}

# In the kernel's own commands: a bridge with the NIC and the guests in it, which is the router's own
# interface as well; rules of nftables for each guest's MAC and addresses; SNAT and an NDP proxy.
kernel_configure() {
  inside router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.default.accept_dad=0 \
    net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
  ip -n router link add name br0 address "$router_mac" type bridge mcast_snooping 0
  inside router sysctl -qw net.ipv6.conf.{br0,veth-inside}.disable_ipv6=0 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.br0.proxy_ndp=1 net.ipv6.neigh.br0.proxy_delay=0
  local guest
  for guest in "${bridged[@]}"; do ip -n router link set "${port[$guest]}" master br0; done
  ip -n router link set eth0 master br0
  ip -n router link set br0 up
  ip -n router address add "$router/24" dev br0
  ip -n router address add "$router6/64" dev br0
  ip -n router route add default via "$provider"
  ip -n router route add default via "$provider6" dev br0
  ip -n router address add 10.0.0.254/24 dev veth-inside
  ip -n router address add fe80::1/64 dev veth-inside
  ip -n router route add "${public6[inside]}" dev veth-inside
  ip -n router neighbour add proxy "${public6[inside]}" dev br0
  inside router iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o br0 -j SNAT --to-source "$router"
  kernel_pairs
}

# What a plain bridge does not ask: who may say what.
kernel_pairs() {
  # The target of a message of neighbour discovery, as bytes: nft of Debian 12 has no word for it.
  local -A targets=(
    [web]='0x20010db8000900000000000000000021, 0xfe80000000000000505400fffe00000a'
    [db]='0x20010db8000900000000000000000022, 0xfe80000000000000000000fffe00020b'
  )
  local guest chain rules=''
  for guest in "${bridged[@]}"; do
    chain=of-$guest
    rules+="chain $chain {
      ether saddr != ${mac[$guest]} drop
      arp saddr ether != ${mac[$guest]} drop
      ether type arp arp saddr ip { ${public[$guest]}, 0.0.0.0 } accept
      ip protocol udp udp sport 67 udp dport 68 drop
      ip saddr { ${public[$guest]}, 0.0.0.0 } accept
      icmpv6 type { nd-router-advert, nd-redirect, mld-listener-query } drop
      icmpv6 type nd-neighbor-advert @th,64,128 != { ${targets[$guest]} } drop
      ip6 saddr { ${public6[$guest]}, ${link_local[$guest]} } accept
      icmpv6 type nd-neighbor-solicit ip6 saddr :: @th,64,128 { ${targets[$guest]} } accept
      icmpv6 type mld2-listener-report ip6 saddr :: accept
      drop
    }
"
  done
  inside router nft -f - <<END
table bridge pairs {
  $rules
  chain prerouting {
    type filter hook prerouting priority -300;
    iifname vmap { ${port[web]} : jump of-web, ${port[db]} : jump of-db }
  }
}
END
}
