# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: single-address    one address for the host and three guests, in three zones; any DUT
# Each guest leaves by the host's address; between the zones passes what the rules say, and who is
# refused is told, or not. All the while the host's own TCP connections go on. Ends with a table.
# Run: netns-scripts/lab.sh run single-address [DUT=kernel]

recipe single-address

single_address() {
  topology_up
  host_sessions
  say provider "one MAC, $host; gateway $provider"
  router_start
  if [[ $dut == kernel ]]; then
    say router "the kernel: a bridge, iptables MASQUERADE, DNAT and a forward chain"
  else
    say router "tapgate run ${configuration##*/}"
  fi
  vm_start
  services_start
  say remote "$remote serves 100 MB over HTTP"
  begin shop "the VM is booting (QEMU without KVM)"
  guest_configure desk
  guest_configure lap
  vm_wait
  guest_configure shop
  say shop "the VM is up: $(guest_run shop 'uname -sr')"

  local guest
  for guest in "${guests[@]}"; do check_masquerade "$guest"; done
  check_zones
  check_host
  check_reach remote "$host" 8080 told # by the host's own kernel: nothing listens there
  print_table '%-8s %-16s %-6s %-8s %-8s' from to port expected is
  verdict_check
  say provider "every frame wore $nic_mac and $host"
}

# A guest leaves by the host's address.
check_masquerade() {
  witness_reset
  check_ping "$1" "$remote"
  check_seen "$1" "$remote" "$host"
  check_download "$1" "$remote"
  witness_judge
  judge "$1"
}

# What the rules say, from every zone to every other.
check_zones() {
  witness_reset
  answers_at remote 22 25 53
  answers_at desk 22 80
  answers_at shop 22 23 80
  check_reach remote "$host" 80 shop
  check_reach desk "${address[shop]}" 80 shop
  check_reach desk "$host" 80 shop
  check_reach lap "${address[shop]}" 22 shop
  check_reach lap "${address[shop]}" 23 told
  check_reach lap "${address[desk]}" 22 desk
  check_reach desk "$remote" 25 remote
  check_reach shop "$remote" 53 remote
  check_reach shop "$remote" 25 told
  check_reach shop "${address[desk]}" 80 told
  # A neighbour on the uplink who knows the addresses inside, and has a route to them.
  ip -n provider route add 192.168.0.0/16 via "$host"
  check_reach provider "${address[shop]}" 22 silent
  check_reach provider "${address[desk]}" 22 silent
  ip -n provider route delete 192.168.0.0/16
  witness_judge
  judge provider
}

single_address
