#!/usr/bin/env bash
# The lab's topology: a provider that ties each public address to one MAC, a remote host behind
# it, the router's namespace, three guests. Addresses as in examples/multi-mac.toml. Sourced.
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
declare -gA mac=([guest-a]=02:00:00:00:00:aa [guest-b]=02:00:00:00:00:bb [guest-c]=02:00:00:00:00:cc)
declare -gA public=([guest-a]=203.0.113.10 [guest-b]=203.0.113.20 [guest-c]=203.0.113.30)
declare -gA subnet=([guest-a]=10.0.1.0/24 [guest-b]=10.0.2.0/24 [guest-c]=10.0.3.0/24)
declare -gA address=([guest-a]=10.0.1.1 [guest-b]=10.0.2.1 [guest-c]=10.0.3.1)
declare -gA gateway=([guest-a]=10.0.1.254 [guest-b]=10.0.2.254 [guest-c]=10.0.3.254)
declare -gA iperf_port=([guest-a]=5201 [guest-b]=5202 [guest-c]=5203)

# Makes everything but the guests' ports on the router, which router_start attaches.
topology_up() {
  local ns
  for ns in provider remote router guest-a guest-b; do
    ip netns add "$ns"
    ip -n "$ns" link set lo up
  done
  for ns in provider remote router; do # their kernels say nothing of their own accord
    inside "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
  done

  ip link add uplink netns provider type veth peer name eth0 netns router
  ip -n router link set eth0 address "$nic_mac"
  ip -n provider link set uplink up
  ip -n provider address add "$provider/24" dev uplink
  local guest
  for guest in "${guests[@]}"; do
    ip -n provider route add "${public[$guest]}/32" dev uplink src "$provider"
  done

  ip link add remote netns provider type veth peer name eth0 netns remote
  ip -n provider link set remote up
  ip -n provider address add 198.51.100.254/24 dev remote
  ip -n remote link set eth0 up
  ip -n remote address add "$remote/24" dev eth0
  ip -n remote route add default via 198.51.100.254
  inside provider sysctl -qw net.ipv4.ip_forward=1
  ip -n router link set eth0 up
  witness_start
}

# inside NAMESPACE COMMAND...: runs COMMAND there.
inside() {
  ip netns exec "$@"
}

# veth_attach GUEST ROUTER_DEVICE: gives a namespace guest its NIC, a veth.
veth_attach() {
  ip link add "${device[$1]}" netns "$1" type veth peer name "$2" netns router
  ip -n router link set "$2" up
}

# guest_configure GUEST: addresses the NIC of a guest, once it is there.
guest_configure() {
  local nic=${device[$1]}
  guest_run "$1" "ip link set $nic up &&
    ip address add ${address[$1]}/24 dev $nic &&
    ip route add default via ${gateway[$1]}"
}

# guest_run GUEST COMMAND: runs a line of shell in the guest, with busybox's tools.
guest_run() {
  if [[ ${kind[$1]} == VM ]]; then
    vm_run "$2"
  else
    inside "$1" busybox sh -c "$2"
  fi
}

# Starts what the guests talk to: a web server with a file of 100 MB, and iperf3 for each guest.
services_start() {
  local web=$state/web guest
  mkdir -p "$web/cgi-bin"
  head -c 100M /dev/urandom >"$web/100MB"
  file_sum=$(sha256sum <"$web/100MB")
  # shellcheck disable=SC2016 # for the web server's shell to expand
  printf '#!/bin/busybox sh\nprintf "\\n$REMOTE_ADDR\\n"\n' >"$web/cgi-bin/whoami"
  chmod 755 "$web/cgi-bin/whoami"
  inside remote busybox httpd -f -p "$remote:80" -h "$web" &
  for guest in "${guests[@]}"; do
    inside remote iperf3 -s -B "$remote" -p "${iperf_port[$guest]}" >"$state/iperf3-$guest.log" 2>&1 &
  done
  until inside remote ss -Hltn "sport = ${iperf_port[guest-c]}" | grep -q . &&
    inside remote ss -Hltn "sport = 80" | grep -q .; do sleep 0.02; done
}
