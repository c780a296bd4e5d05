# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: ovh-ipv6          an on-link /64 and one IPv4 address shared with the host, dual stack; any DUT
# Each guest pings, asks the web server which address it sees, downloads 100 MB over both families;
# the remote host comes in by redirected ports and by IPv6. All the while the host's own TCP
# connections go on. Ends with a table.
# Run: netns-scripts/lab.sh run ovh-ipv6 [DUT=kernel]

recipe ovh-ipv6
kernel_faults=(
  '* wears 52:54:00:00:00:01 *' '* wears 02:00:00:00:01:0? *' # the bridge lets the guests' own MACs out
  'the /112: *'                                               # there is no proxy entry for a prefix
)

ovh_ipv6() {
  topology_up
  [[ $dut == kernel ]] || host_sessions # before tapgate comes; the kernel's bridge moves its addresses
  say provider "one MAC, $host, and 2001:db8:12:3401::/64 on the link; gateway $provider6"
  router_start
  [[ $dut != kernel ]] || host_sessions
  if [[ $dut == kernel ]]; then
    say router "the kernel: a bridge, ip -6 neigh add proxy, iptables SNAT and DNAT"
  else
    say router "tapgate run ${configuration##*/}"
  fi
  vm_start
  services_start
  say remote "$remote and $remote6 serve 100 MB over HTTP"
  begin web "the VM is booting (QEMU without KVM)"
  vm_wait
  local guest
  for guest in "${guests[@]}"; do guest_configure "$guest"; done
  say web "the VM is up: $(guest_run web 'uname -sr')"

  for guest in "${guests[@]}"; do check_guest "$guest"; done
  check_redirections
  check_prefix
  check_host
  print_table '%-5s %-5s %-13s %-22s %-18s %-10s %-10s %-12s %-12s' \
    guest kind 'IPv4 seen' 'IPv6 seen' 'MAC seen' ping 'ping IPv6' HTTP 'HTTP IPv6'
  verdict_check
  [[ $dut == kernel ]] || say provider "every frame wore $nic_mac, and an address assigned to it"
}

# The host's own TCP connections, to and from the remote host.
host_sessions() {
  session_serve router
  session_serve remote
  session_start in remote "$host"
  session_start in6 remote "$host6"
  session_start out router "$remote"
  session_start out6 router "$remote6"
}

# Runs one guest's checks and keeps its row of the table. A check that fails does not stop the rest.
check_guest() {
  local guest=$1 seen4 ping4 download4 worn
  witness_reset
  check_ping "$guest" "$remote" && ping4=$ping
  check_ping "$guest" "$remote6"
  check_seen "$guest" "$remote" "$host" && seen4=$seen
  check_seen "$guest" "[$remote6]" "${public6[$guest]}"
  check_download "$guest" "$remote" && download4=$download
  check_download "$guest" "[$remote6]"

  # From outside: the provider asks everyone for the address's MAC, and the router answers for it.
  ip -n provider neighbour flush dev uplink
  check_from_outside "$guest" "${public6[$guest]}"

  # The bulk of what the provider let in, in this guest's turn: the guest's and the host's.
  worn=$({ witness_seen ip-pairs && witness_seen ip6-pairs; } | awk '$3 >= 1000 { print $1 }' | sort -u | paste -sd ,)
  [[ $worn == "$nic_mac" ]] || faults+=("its flows wore: ${worn:-nothing}")
  witness_judge
  judge "$guest"
  rows+=("$guest|${kind[$guest]}|${seen4:--}|${seen:--}|$worn|${ping4:--}|${ping:--}|$download4|$download|$verdict")
}

# check_from_outside WHO ADDRESS: the remote host reaches ADDRESS, which the provider resolves to
# the NIC's MAC.
check_from_outside() {
  local worn
  inside remote ping -q -c 3 -i 0.1 -W 2 "$2" >/dev/null || faults+=("${3-}$2 does not answer the remote host's ping")
  worn=$(ip -n provider neighbour show "$2" dev uplink | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
  [[ $worn == "$nic_mac" ]] || faults+=("${3-}NDP says $2 is at ${worn:-no MAC}")
}

# What the provider saw and has not assigned, as faults.
witness_judge() {
  local fault
  while read -r fault; do faults+=("$fault"); done < <(witness_faults)
}

# The remote host comes in by the host's ports 2222 (TCP, to the VM) and 5353 (UDP, to db).
check_redirections() {
  local answer
  witness_reset
  guest_run web "nc -ll -p 22 -e /bin/hostname >/dev/null 2>&1 & hostname web"
  guest_run web "for i in 1 2 3 4 5 6 7 8 9; do netstat -ltn | grep -q :22 && break; sleep 0.1; done"
  answer=$(inside remote timeout 5 busybox nc "$host" 2222 </dev/null || true)
  [[ $answer == web ]] || faults+=("TCP port 2222 answers '$answer', not as web")
  say remote "TCP to $host port 2222: ${answer:-no answer}"
  need_tool flow
  inside db "$tools/flow" serve "${address[db]}:53" &
  listening db "sport = 53"
  answer=$(inside remote "$tools/flow" echo "$host:5353" --seconds 1 --rate 200 || true)
  [[ $answer == "received="*" lost=0 "* ]] || faults+=("UDP port 5353: ${answer:-no answer}")
  say remote "UDP to $host port 5353: ${answer:-no answer}"
  witness_judge
  judge redirections
}

# db's own /112, all of which it answers.
check_prefix() {
  local target
  witness_reset
  check_from_outside db 2001:db8:12:3401:b::1
  for target in 2001:db8:12:3401:b::2 2001:db8:12:3401:b::abcd; do
    check_from_outside db "$target" "the /112: "
  done
  [[ $(ip netns exec db ping -q -c 2 -i 0.1 -W 2 -I 2001:db8:12:3401:b::1 "$remote6") == *" 0% packet loss"* ]] ||
    faults+=("db reaches nobody from 2001:db8:12:3401:b::1")
  witness_judge
  judge /112
}

# The host's own connections, there since before the router was.
check_host() {
  local name resets
  for name in in in6 out out6; do
    if session_end $name; then
      say router "the host's own TCP connection ($name): $session"
    else
      faults+=("the host's own TCP connection ($name): $(cat "$state/session.$name")")
    fi
  done
  resets=$(witness_seen resets)
  [[ -z $resets ]] || faults+=("the host sent TCP resets: $resets")
  judge host
}

ovh_ipv6
