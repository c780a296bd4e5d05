# Marks by nft's own rules, for `unshare -n bash`: two uplinks, answers by the one that a flow came by, and flows
# that rules mark.
set -e
ip link set lo up
for n in 0 1 2; do ip link add eth$n address 02:00:00:00:00:0$n type veth peer name p$n; ip link set eth$n up; ip link set p$n up; done
for g in g0 g1; do ip link add $g type veth peer name $g-peer; ip link set $g up; ip link set $g-peer up; done
for n in 0 1; do ip link add br$n address 02:00:00:00:00:b$n type bridge; ip link set g$n master br$n; ip link set br$n up; done
ip addr add 198.51.100.7/24 dev eth0; ip addr add 203.0.113.7/24 dev eth1; ip addr add 192.0.2.7/24 dev eth2
ip -6 addr add 2001:db8::1/64 dev eth0 nodad; ip -6 addr add 2001:db8:1::1/64 dev eth1 nodad
ip addr add 10.0.1.254/24 dev br0; ip addr add 10.0.2.254/24 dev br1; ip -6 addr add 2001:db8:2::1/64 dev br0 nodad
ip route add default via 198.51.100.254 dev eth0; ip -6 route add default via fe80::99 dev eth0
ip route add default via 203.0.113.254 dev eth1 table 11; ip route add 10.0.0.0/16 via 10.0.1.1 dev br0 table 11
ip -6 route add default via fe80::98 dev eth1 table 11
ip route add default via 192.0.2.254 dev eth2 table 12
ip rule add fwmark 0x100/0xf00 lookup 11 pref 90; ip -6 rule add fwmark 0x100/0xf00 lookup 11 pref 90
ip rule add fwmark 0x200/0xf00 lookup 12 pref 91
ip rule add fwmark 0x300/0xf00 prohibit pref 92
nft -f - <<END
table inet marks {
  chain prerouting {
    type filter hook prerouting priority mangle
    ct mark and 0xf00 != 0 meta mark set ct mark and 0xf00
    iifname eth1 ct state new ct mark set ct mark and 0xfffff0ff or 0x100
    iifname { br0, br1 } ct state new jump given
    iifname br1 udp dport 53 meta mark set 0x300
    iifname br0 ip ttl 3 meta mark set 0x300
  }
  chain given {
    ip saddr 10.0.1.9 return
    meta nfproto ipv4 tcp dport { 80, 443 } meta mark set 0x200 ct mark set meta mark
  }
  chain forward {
    type filter hook forward priority filter; policy drop
    ct state established,related accept
    iifname br0 oifname { eth0, eth1, eth2 } accept
    iifname br1 tcp dport 443 accept
  }
}
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname { eth0, eth1, eth2 } masquerade
  }
}
END
