# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: recipe            three guests, each leaving by its own address and MAC; any DUT
# Each guest pings, asks the web server which address it sees, downloads 100 MB, runs iperf3 both
# ways; the provider checks every frame. Ends with a table.
# Run: netns-scripts/lab.sh run recipe [DUT=kernel]

iperf_seconds=${IPERF_SECONDS:-3}
rows=() verdicts=0

recipe() {
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
  print_table
  witness_check
  ((verdicts == 0)) || fail "$verdicts of ${#guests[@]} guests did not pass"
  say provider "$(witness_summary)"
}

# Runs one guest's checks and keeps its row of the table. A check that fails does not stop the rest.
check_guest() {
  local guest=$1 faults=() seen worn ping rate sum out in before took
  witness_reset

  begin "$guest" "pings $remote"
  ping=$(guest_run "$guest" "ping -q -c 10 -i 0.1 -W 2 $remote" || true)
  [[ $ping == *" 0% packet loss"* ]] || faults+=("ping lost packets")
  ping=$(sed -n 's|^round-trip.*= [^/]*/\([^/]*\)/.*|\1 ms|p' <<<"$ping")
  say "$guest" "ping $remote: ${ping:-no answer}"

  seen=$(guest_run "$guest" "timeout 5 busybox wget -q -O - http://$remote/cgi-bin/whoami" || true)
  [[ $seen == "${public[$guest]}" ]] || faults+=("the server sees ${seen:-nobody}, not ${public[$guest]}")

  begin "$guest" "downloads 100 MB"
  before=$EPOCHREALTIME
  if guest_run "$guest" "timeout 60 busybox wget -q -O $(scratch "$guest") http://$remote/100MB" >/dev/null; then
    took=$((${EPOCHREALTIME/./} - ${before/./}))
    rate=$((104857600 / took)) # bytes per microsecond: MB/s
    begin "$guest" "computes SHA-256"
    sum=$(guest_run "$guest" "sha256sum <$(scratch "$guest"); rm $(scratch "$guest")" || true)
    if [[ $sum == "$file_sum" ]]; then sum=ok; else sum=wrong faults+=("SHA-256 differs"); fi
  else
    rate=0 sum=none
    faults+=("the download failed")
  fi
  say "$guest" "100 MB over HTTP: $rate MB/s, SHA-256 $sum"

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

  local verdict=ok fault
  ((${#faults[@]} == 0)) || { verdict=WRONG && verdicts=$((verdicts + 1)); }
  for fault in "${faults[@]}"; do say "$guest" "${red}wrong: $fault${plain}"; done
  rows+=("$guest|${kind[$guest]}|${seen:--}|${worn%% *}|${ping:--}|$rate MB/s $sum|${out:-0}|${in:-0}|$verdict")
}

# The file that a guest downloads to: memory, everywhere.
scratch() {
  [[ ${kind[$1]} == VM ]] && echo /tmp/100MB || echo "$state/$1.100MB"
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

print_table() {
  local row fields layout='%-8s %-5s %-14s %-18s %-10s %-14s %11s %10s  %s\n'
  echo
  # shellcheck disable=SC2059 # the layout is ours
  printf "$bold$layout$plain" guest kind 'address seen' 'MAC seen' ping download 'Mbit/s out' 'Mbit/s in' verdict
  for row in "${rows[@]}"; do
    IFS='|' read -ra fields <<<"$row"
    [[ ${fields[8]} == ok ]] && fields[8]=$green${fields[8]}$plain || fields[8]=$red${fields[8]}$plain
    # shellcheck disable=SC2059
    printf "$layout" "${fields[@]}"
  done
  echo
}

witness_summary() {
  local frames
  frames=$(witness_seen ip-pairs | awk '{ n += $3 } END { print n + 0 }')
  echo "every frame wore an assigned MAC and address; none wore the NIC's own $nic_mac"
}

recipe
