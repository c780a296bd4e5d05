# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: ovh-ipv6          an on-link /64 and one IPv4 address shared with the host, dual stack; any DUT
# Each guest pings, asks the web server which address it sees, downloads 100 MB over both families;
# the remote host comes in by redirected ports and by IPv6. All the while the host's own TCP
# connections go on. Ends with a table.
# Run: netns-scripts/lab.sh run ovh-ipv6 [DUT=kernel]

recipe ovh-ipv6
kernel_faults=(
  '* wears 52:54:00:00:00:01 *' '* wears 02:00:00:00:01:0? *' # the bridge lets the guests' own MACs out
  'its flows wore: 02:00:00:00:00:01,*'
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
  guest_configure db
  guest_configure mail
  vm_wait
  guest_configure web
  local guest
  say web "the VM is up: $(guest_run web 'uname -sr')"

  for guest in "${guests[@]}"; do check_guest "$guest" "$host" "${public6[$guest]}"; done
  check_redirections
  check_prefix
  [[ $dut == kernel ]] || check_restart
  [[ $dut == kernel ]] || check_stop
  check_host
  print_guests
  verdict_check
  [[ $dut == kernel ]] || say provider "every frame wore $nic_mac, and an address assigned to it"
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
  check_from_outside 2001:db8:12:3401:b::1
  for target in 2001:db8:12:3401:b::2 2001:db8:12:3401:b::abcd; do
    check_from_outside "$target" "the /112: "
  done
  [[ $(ip netns exec db ping -q -c 2 -i 0.1 -W 2 -I 2001:db8:12:3401:b::1 "$remote6") == *" 0% packet loss"* ]] ||
    faults+=("db reaches nobody from 2001:db8:12:3401:b::1")
  witness_judge
  judge /112
}

# kill -9 of the dataplane: flows behind the host's address go on, and its kernel resets none.
check_restart() {
  local flow report dataplane pids=()
  inside remote "$tools/flow" serve "$remote:7001" &
  listening remote "src $remote:7001"
  inside db "$tools/flow" echo "$remote:7001" --seconds 2 --rate 500 >"$state/echo" &
  pids+=($!)
  inside mail "$tools/flow" upload "$remote:7001" --seconds 2 --rate 20 >"$state/upload" &
  pids+=($!)
  sleep 0.5
  dataplane=$(dataplane_pid)
  kill -KILL "$dataplane"
  for flow in "${pids[@]}"; do wait "$flow" || faults+=("a flow ended with the dataplane"); done
  for flow in echo upload; do
    report=$(cat "$state/$flow")
    [[ $report =~ gap_ms=([0-9]+)$ ]] && ((BASH_REMATCH[1] < 1000)) || faults+=("$flow: ${report:-nothing}")
    say router "the dataplane killed; $flow through SNAT: $report"
  done
  [[ $(dataplane_pid) != "$dataplane" ]] || faults+=("the dataplane was not killed")
  judge restart
}

# SIGTERM: the host's kernel has its address to itself again.
check_stop() {
  local deadline=$((SECONDS + 5)) left
  [[ -n $(inside router nft list ruleset) ]] || faults+=("a running tapgate left the host's kernel its ports")
  [[ -z $(witness_seen resets) ]] || faults+=("the host sent TCP resets: $(witness_seen resets)")
  kill -TERM "$control_pid"
  while kill -0 "$control_pid" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.05; done
  left=$(inside router nft list ruleset; pgrep -l tapgate || true)
  [[ -z $left ]] || faults+=("SIGTERM left behind: $left")
  ! inside remote busybox nc -w 2 "$host" 2222 </dev/null 2>"$state/refused" || faults+=("port 2222 still answers")
  grep -q refused "$state/refused" || faults+=("the host's kernel does not answer at port 2222: $(cat "$state/refused")")
  say router "SIGTERM: no rule and no process is left, and the host's kernel answers at port 2222"
  witness_judge
  judge stop
  inside provider nft flush set netdev witness resets # that answer
}

ovh_ipv6
