#!/usr/bin/env bash
# What every recipe's lab has: a provider, a remote host behind it, the router's namespace and
# guests. A recipe (netns-scripts/recipes) says which guests, and all addresses. Sourced.
# Run: netns-scripts/lab.sh up, then netns-scripts/lab.sh exec provider ip address
#
#   guests ---- router --eth0---uplink-- provider --remote---eth0-- remote

# Makes everything but the guests' ports on the router, which router_start attaches.
topology_up() {
  local ns guest
  for ns in provider remote router; do ip netns add "$ns"; done
  for guest in "${guests[@]}"; do [[ ${kind[$guest]} == VM ]] || ip netns add "$guest"; done
  for ns in $(ip netns list | cut -d ' ' -f 1); do ip -n "$ns" link set lo up; done
  for ns in provider remote router; do # so that what gets an IPv6 address can use it at once
    inside "$ns" sysctl -qw net.ipv6.conf.{all,default}.accept_dad=0 net.ipv6.conf.default.router_solicitations=0
  done

  ip link add uplink netns provider type veth peer name eth0 netns router
  ip link add remote netns provider type veth peer name eth0 netns remote
  ip -n router link set eth0 address "$nic_mac"
  ip -n provider link set uplink up
  ip -n provider link set remote up
  ip -n remote link set eth0 up
  inside provider sysctl -qw net.ipv4.ip_forward=1
  provider_configure
  ip -n router link set eth0 up
  host_configure
  witness_start
}

# inside NAMESPACE COMMAND...: runs COMMAND there.
inside() {
  ip netns exec "$@"
}

# veth_attach GUEST: gives a namespace guest its NIC, a veth whose other end is its port.
veth_attach() {
  local own=${own_mac[$1]-}
  # shellcheck disable=SC2086 # two words or none
  ip link add "${device[$1]}" ${own:+address $own} netns "$1" type veth peer name "${port[$1]}" netns router
  ip -n router link set "${port[$1]}" up
}

# Gives every guest its port where the router makes none: the VM a TAP, each other one a veth.
devices_attach() {
  local guest
  for guest in "${guests[@]}"; do
    # A TAP needs a process on its fd side: the VM has one, a namespace has none.
    if [[ ${kind[$guest]} == VM ]]; then
      ip -n router tuntap add dev "${port[$guest]}" mode tap vnet_hdr
      ip -n router link set "${port[$guest]}" up
    else
      # shellcheck disable=SC2004 # a name, not a number
      kind[$guest]=veth
      veth_attach "$guest"
    fi
  done
}

# listening NAMESPACE FILTER: waits until something listens there, TCP or UDP; FILTER is that of ss.
listening() {
  local deadline=$((SECONDS + 5))
  until inside "$1" ss -Hltun "$2" | grep -q .; do
    ((SECONDS < deadline)) || fail "nothing listens in $1: $2"
    sleep 0.02
  done
}

# guest_run GUEST COMMAND: runs a line of shell in the guest, with busybox's tools.
guest_run() {
  if [[ ${kind[$1]} == VM ]]; then
    vm_run "$2"
  else
    inside "$1" busybox sh -c "$2"
  fi
}

# guest_detected GUEST: waits for the end of its duplicate address detection, sets $duplicates to
# the addresses that it will not use.
guest_detected() {
  duplicates=$(guest_run "$1" "for i in \$(seq 50); do
    ip -6 address show dev ${device[$1]} | grep -v dadfailed | grep -q tentative || break; sleep 0.1; done;
    ip -6 address show dev ${device[$1]} | grep tentative" || true)
}

# Starts what the guests talk to: a web server with a file of 100 MB, and iperf3 for each guest
# where the recipe wants it.
services_start() {
  local web=$state/web guest at
  mkdir -p "$web/cgi-bin"
  head -c 100M /dev/urandom >"$web/100MB"
  file_sum=$(sha256sum <"$web/100MB")
  # shellcheck disable=SC2016 # for the web server's shell to expand
  printf '#!/bin/busybox sh\nprintf "\\n$REMOTE_ADDR\\n"\n' >"$web/cgi-bin/whoami"
  chmod 755 "$web/cgi-bin/whoami"
  for at in "$remote" ${remote6:+"[$remote6]"}; do
    inside remote busybox httpd -f -p "$at:80" -h "$web" &
    listening remote "src $at:80"
  done
  for guest in "${!iperf_port[@]}"; do
    inside remote iperf3 -s -B "$remote" -p "${iperf_port[$guest]}" >"$state/iperf3-$guest.log" 2>&1 &
    listening remote "sport = ${iperf_port[$guest]}"
  done
}
