#!/usr/bin/env bash
# DUT=kernel: the recipe that tapgate replaces, in the kernel's own commands. Sourced.
# Run: netns-scripts/lab.sh up DUT=kernel

router_start() {
  devices_attach
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
