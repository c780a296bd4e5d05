# All that rules, routes and neighbours can say, for `unshare -n bash`.
set -e
ip link set lo up
ip link add eth0 address 02:00:00:00:00:01 type veth peer name p0; ip link set eth0 up; ip link set p0 up
ip link add link eth0 name A address 02:00:00:00:00:aa type macvlan mode bridge; ip link set A up
ip link add br0 address 02:00:00:00:00:b0 type bridge; ip link set br0 up
for g in g0 g1 g2; do ip link add $g type veth peer name $g-peer; ip link set $g up; ip link set $g-peer up; done
ip link set g0 master br0; ip link set g1 master br0; ip link set g2 mtu 1400
ip addr add 198.51.100.7/24 dev eth0; ip -6 addr add 2001:db8::1/64 dev eth0 nodad
ip addr add 203.0.113.10/32 dev A
ip addr add 10.0.1.254/24 dev br0; ip addr add 10.9.0.1 peer 10.9.0.2/32 dev br0; ip addr add 10.0.1.253/24 dev br0; ip -6 addr add fe80::1/64 dev br0
ip addr add 10.0.2.254/24 dev g2; ip addr add 10.0.66.1/24 dev g1; ip addr add 192.0.2.200/32 dev lo
ip tuntap add dev tun0 mode tun; ip addr add 10.98.0.1/24 dev tun0; ip link set tun0 up; ip route add 10.97.0.0/16 dev tun0
ip route add default via 198.51.100.254 dev eth0
ip route add default via 198.51.100.253 dev eth0 metric 50
ip route add default via 192.0.2.1 dev A onlink table 101
ip route add unreachable default table 104
ip route add 10.5.0.0/16 metric 5 mtu 1400 advmss 1300 src 10.0.1.254 nexthop via 10.0.1.1 dev br0 weight 2 nexthop via 10.0.1.2 dev br0
ip route add 10.7.0.0/16 via inet6 fe80::5 dev br0 metric 20
ip route add 10.7.0.0/16 via 10.0.1.9 dev br0 metric 30
ip route add 10.10.0.0/16 via 10.0.1.9 dev br0 mtu 1400 advmss 1300 src 10.0.1.254
ip route add 203.0.113.77 dev g2; ip route add 203.0.113.80/29 via 203.0.113.77 dev g2; ip route add 10.77.0.5 dev g2
ip route add throw 10.6.0.0/16 table 101
ip route add prohibit 10.61.0.0/16 table 101
ip route add 10.0.1.0/24 dev br0 table 101
ip -6 route add default via fe80::99 dev eth0 metric 7
ip -6 route add 2001:db8:5::/48 nexthop via fe80::98 dev br0 nexthop via fe80::97 dev br0
ip -6 route add blackhole 2001:db8:6::/48
ip -6 route add unreachable 2001:db8:7::/48
ip -6 route add 2001:db8:8::/48 via fe80::97 dev br0
ip rule add from 10.0.1.0/24 lookup 101 pref 100
ip rule add from 10.0.3.0/24 lookup 104 pref 100
ip -6 rule add from 2001:db8::/64 lookup 101 pref 100
ip rule add lookup 104 pref 103; ip -6 rule add lookup 104 pref 103
ip rule add iif br0 lookup 101 pref 104
ip rule add not from 10.0.1.0/24 to 10.0.0.0/8 iif br0 fwmark 0x10/0xf0 tos 0x10 ipproto tcp sport 1-100 dport 22 lookup 101 pref 101
ip rule add oif br0 fwmark 7 goto 204 pref 99
ip rule add pref 200 nop
ip rule add pref 201 to 10.8.0.0/16 prohibit
ip rule add pref 202 from 10.8.0.0/16 unreachable; ip rule add pref 203 oif br0 blackhole
ip rule add pref 204 lookup main suppress_prefixlength 0
ip rule add pref 205 uidrange 100-200 lookup 101
ip rule add pref 206 iif lo lookup 101
ip rule add pref 207 lookup main suppress_ifgroup 5
ip rule add pref 208 iif nonexist lookup 101
ip rule add pref 32765 from 10.0.5.0/24 lookup 105
ip rule add pref 32765 from 10.0.6.0/24 lookup 105
ip rule add pref 32800 from 10.0.4.0/24 lookup 104
ip neigh add proxy 203.0.113.77 dev A
ip neigh add proxy 203.0.113.99 dev A
ip neigh add proxy 198.51.100.254 dev br0
ip neigh add proxy 10.5.5.5 dev br0
ip -6 neigh add proxy 2001:db8::77 dev eth0
ip neigh add 10.0.1.5 lladdr 02:00:00:00:05:05 dev br0; bridge fdb add 02:00:00:00:05:05 dev g0 master static
ip neigh add 10.0.2.5 lladdr 02:00:00:00:05:06 dev g2

