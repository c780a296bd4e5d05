#!/usr/bin/env bash
# DUT=kernel: the recipe that tapgate replaces, in the kernel's own commands. Sourced.
# Run: netns-scripts/lab.sh up DUT=kernel

router_start() {
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
  kernel_configure
}

router_state() {
  ip -n router rule
  ip -n router route show table all
  ip -n router -6 route show table all
  ip -n router neighbour
  ip -n router neighbour show proxy
  inside router iptables -t nat -vnL
}
