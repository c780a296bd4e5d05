# shellcheck shell=bash # sourced by lab.sh
# Scenario: reboot            a VM reboots ten times and sees no duplicate; another guest that takes its address does; any DUT
# The kernel's proxy entry answers the VM's own probe: with DUT=kernel the VM must see a duplicate.
# Run: netns-scripts/lab.sh run reboot [DUT=kernel]

recipe ovh-ipv6

reboot_ten_times() {
  local boot boots=10
  topology_up
  router_start
  vm_start
  guest_configure mail
  vm_wait
  guest_configure web
  pings web 5 "$remote6" || fail "the VM does not reach $remote6 before the test"
  say web "the VM is up and reaches $remote6"

  [[ $dut != kernel ]] || boots=1
  for ((boot = 1; boot <= boots; boot++)); do
    begin web "reboots, $boot of $boots"
    vm_reboot
    guest_addresses web "${public6[web]}"
    probes_itself
    guest_detected web
    if [[ $dut == kernel ]]; then
      [[ $duplicates == *"${public6[web]}"*dadfailed* ]] || fail "the kernel let the VM have its address"
      say web "expected of the kernel: ${duplicates/#* inet6/inet6}"
      return
    fi
    [[ -z $duplicates ]] || fail "boot $boot: the VM sees a duplicate: $duplicates"
    pings web 5 "$remote6" || fail "boot $boot: the VM does not reach $remote6"
    say web "boot $boot of $boots: no duplicate seen; it reaches $remote6"
  done

  steals running
  vm_kill
  steals 'not running'
  witness_check
}

# The VM's ARP probe for its own address (RFC 5227) must not be answered; meanwhile IPv6 detects.
probes_itself() {
  guest_run web "arping -q -D -c 1 -w 1 -I eth0 ${address[web]}" ||
    fail "somebody answers the VM's own ARP probe for ${address[web]}"
}

# steals STATE: another guest takes the VM's addresses, and is told that they are duplicates.
steals() {
  guest_run mail "ip -6 address add ${public6[web]}/128 dev eth0"
  guest_detected mail
  [[ $duplicates == *"${public6[web]}"*dadfailed* ]] || fail "mail took ${public6[web]} while the VM is $1"
  ! guest_run mail "arping -q -D -c 2 -w 2 -I eth0 ${address[web]}" ||
    fail "mail's ARP probe for ${address[web]} was not answered while the VM is $1"
  guest_run mail "ip -6 address delete ${public6[web]}/128 dev eth0"
  say mail "the VM is $1: its addresses are duplicates to mail (${duplicates##*scope global })"
}

reboot_ten_times
