# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: multi-mac         three guests, each leaving by its own address and MAC; any DUT
# Each guest pings, asks the web server which address it sees, downloads 100 MB, runs iperf3 both
# ways; the provider checks every frame. Ends with a table.
# Run: netns-scripts/lab.sh run multi-mac [DUT=kernel]

recipe multi-mac
iperf_seconds=${IPERF_SECONDS:-3}

multi_mac() {
  topology_up
  say provider "ties ${public[guest-a]}, ${public[guest-b]}, ${public[guest-c]} to one MAC each; gateway $provider"
  router_start
  if [[ $dut == kernel ]]; then
    say router "the kernel: three macvlan devices, ip rule, iptables SNAT"
  else
    say router "tapgate run ${configuration##*/}"
  fi
  vm_start
  services_start
  say remote "$remote serves 100 MB over HTTP and iperf3"
  guest_configure guest-a
  guest_configure guest-b
  begin guest-c "the VM is booting (QEMU without KVM)"
  vm_wait
  guest_configure guest-c
  say guest-c "the VM is up: $(guest_run guest-c 'uname -sr')"

  local guest
  for guest in "${guests[@]}"; do check_guest "$guest"; done
  print_table '%-8s %-5s %-14s %-18s %-10s %-14s %11s %10s' \
    guest kind 'address seen' 'MAC seen' ping download 'Mbit/s out' 'Mbit/s in'
  witness_check
  verdict_check
  say provider "every frame wore an assigned MAC and address; none wore the NIC's own $nic_mac"
}

# Runs one guest's checks and keeps its row of the table. A check that fails does not stop the rest.
check_guest() {
  local guest=$1 out in worn
  witness_reset
  check_ping "$guest" "$remote"
  check_seen "$guest" "$remote" "${public[$guest]}"
  check_download "$guest" "$remote"

  begin "$guest" "iperf3 out, $iperf_seconds s"
  out=$(iperf "$guest" '') || faults+=("iperf3 out failed")
  say "$guest" "iperf3 out: ${out:-0} Mbit/s"
  begin "$guest" "iperf3 in, $iperf_seconds s"
  in=$(iperf "$guest" -R) || faults+=("iperf3 in failed")
  say "$guest" "iperf3 in: ${in:-0} Mbit/s"

  # From outside: the provider asks everyone for the address's MAC, and the router answers for it.
  ip -n provider neighbour flush dev uplink
  inside remote ping -q -c 3 -i 0.1 -W 2 "${public[$guest]}" >/dev/null ||
    faults+=("${public[$guest]} does not answer the remote host's ping")
  worn=$(ip -n provider neighbour show "${public[$guest]}" dev uplink | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
  [[ $worn == "${mac[$guest]}" ]] || faults+=("ARP says ${public[$guest]} is at ${worn:-no MAC}")

  # The bulk of what the provider saw in this guest's turn is the guest's: so is every pair.
  worn=$(witness_seen ip-pairs | cut -d ' ' -f 1,2 | sort -u | paste -sd ,)
  [[ $worn == "${mac[$guest]} ${public[$guest]}" ]] || faults+=("its flows wore: ${worn:-nothing}")
  [[ -z $(witness_faults) ]] || faults+=("$(witness_faults | paste -sd ';')")

  judge "$guest"
  rows+=("$guest|${kind[$guest]}|${seen:--}|${worn%% *}|${ping:--}|$download|${out:-0}|${in:-0}|$verdict")
}

# iperf GUEST OPTION: prints the Mbit/s that the receiver got.
iperf() {
  local report
  report=$(guest_run "$1" "iperf3 -c $remote -p ${iperf_port[$1]} -t $iperf_seconds -f m $2" 2>&1) || {
    echo "$report" | tail -n 3 >&2
    return 1
  }
  sed -n 's|.* \([0-9.]*\) Mbits/sec .*receiver.*|\1|p' <<<"$report"
}

multi_mac
