# shellcheck shell=bash # sourced by lab.sh
# Scenario: devices           a veth, a VM and the uplink go and come back; the other ports lose nothing
# Run: netns-scripts/lab.sh run devices
recipe multi-mac

devices_return() {
  topology_up
  router_start
  vm_start
  guest_configure guest-a
  guest_configure guest-b
  flows_serve
  vm_wait
  guest_configure guest-c
  pings guest-a && pings guest-b && pings guest-c || fail "no connection before the test"
  say lab "all three guests reach $remote"

  flow_start guest-a echo 6 1000
  ip -n router link delete veth-b
  sleep 0.5
  veth_attach guest-b
  guest_configure guest-b
  pings guest-b 5 || fail "guest-b has no connection after its veth was deleted and made again"
  say guest-b "its veth was deleted and made again; it is connected"

  vm_kill
  sleep 0.5
  vm_start
  vm_wait
  guest_configure guest-c
  pings guest-c 5 || fail "the VM has no connection after a restart"
  say guest-c "the VM was killed and started again; it is connected"

  flow_end guest-a echo
  ((lost == 0)) || fail "guest-a lost $lost of $((received + lost)) datagrams meanwhile"
  say guest-a "$received datagrams there and back meanwhile, none lost"

  ip -n router link set eth0 down
  sleep 0.5
  ! pings guest-a 0 || fail "guest-a still reaches $remote without an uplink"
  ip -n router link set eth0 up
  local guest
  for guest in "${guests[@]}"; do
    pings "$guest" 5 || fail "$guest has no connection after the uplink was down"
  done
  say router "eth0 was down and up again; all three guests are connected"
  witness_check
}

devices_return
