# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: bridged           guests with MACs and addresses of their own on the uplink, beside a routed one; any DUT
# Each guest pings, asks the web server which address it sees, downloads 100 MB over both families, runs
# iperf3 both ways, and is reached from outside; guests reach each other; one attacks the others, and
# the provider sees nothing of it. Ends with a table.
# Run: netns-scripts/lab.sh run bridged [DUT=kernel]

recipe bridged
iperf_seconds=${IPERF_SECONDS:-3}

bridged() {
  need_tool attack
  topology_up
  say provider "ties ${public[web]} and ${public[db]}, and their IPv6 addresses, to a MAC each; $router to the router's"
  router_start
  if [[ $dut == kernel ]]; then
    say router "the kernel: a bridge, rules of nftables for each guest, SNAT, an NDP proxy"
  else
    say router "tapgate run ${configuration##*/}"
  fi
  vm_start
  services_start
  say remote "$remote and $remote6 serve 100 MB over HTTP and iperf3"
  guest_configure db
  guest_configure inside
  begin web "the VM is booting (QEMU without KVM)"
  vm_wait
  guest_configure web
  say web "the VM is up: $(guest_run web 'uname -sr')"

  local guest
  for guest in "${guests[@]}"; do check_pair "$guest"; done
  check_each_other
  check_policy
  check_attacker
  print_table '%-6s %-5s %-13s %-15s %-18s %-10s %-10s %-12s %-12s %11s %10s' \
    guest kind 'IPv4 seen' 'IPv6 seen' 'MAC seen' ping 'ping IPv6' HTTP 'HTTP IPv6' 'Mbit/s out' 'Mbit/s in'
  witness_check
  verdict_check
  say provider "every frame wore an assigned MAC and address; none wore the NIC's own $nic_mac"
}

# check_pair GUEST: all of a guest with both families, and its row of the table. The provider must see
# its flows from its MAC, and be told that MAC by the guest itself.
check_pair() {
  local guest=$1 seen4 ping4 download4 out in worn nic_mac=${mac[$1]}
  witness_reset
  check_ping "$guest" "$remote" && ping4=$ping
  check_ping "$guest" "$remote6"
  check_seen "$guest" "$remote" "${public[$guest]}" && seen4=$seen
  check_seen "$guest" "[$remote6]" "${public6[$guest]}"
  check_download "$guest" "$remote" && download4=$download
  check_download "$guest" "[$remote6]"
  begin "$guest" "iperf3, $iperf_seconds s each way"
  out=$(iperf "$guest" '') || faults+=("iperf3 out failed")
  in=$(iperf "$guest" -R) || faults+=("iperf3 in failed")
  say "$guest" "iperf3: ${out:-0} Mbit/s out, ${in:-0} in"
  ip -n provider neighbour flush dev uplink
  check_from_outside "${public[$guest]}"
  check_from_outside "${public6[$guest]}"

  worn=$({ witness_seen ip-pairs && witness_seen ip6-pairs; } |
    awk -v v4="${public[$guest]}" -v v6="${public6[$guest]}" '$2 == v4 || $2 == v6 { print $1 }' | sort -u | paste -sd ,)
  [[ $worn == "${mac[$guest]}" ]] || faults+=("its flows wore: ${worn:-nothing}")
  witness_judge
  judge "$guest"
  rows+=("$guest|${kind[$guest]}|${seen4:--}|${seen:--}|${worn:--}|${ping4:--}|${ping:--}|$download4|$download|${out:-0}|${in:-0}|$verdict")
}

# iperf GUEST OPTION: prints the Mbit/s that the receiver got.
iperf() {
  local report
  report=$(guest_run "$1" "iperf3 -c $remote -p ${iperf_port[$1]} -t $iperf_seconds -f m $2" 2>&1) || return 1
  sed -n 's|.* \([0-9.]*\) Mbits/sec .*receiver.*|\1|p' <<<"$report"
}

# Guests reach each other and the router, and nothing of that leaves by the uplink.
check_each_other() {
  local guest to address leaked
  witness_reset
  for guest in "${guests[@]}"; do
    for to in "${guests[@]}" router; do
      [[ $to != "$guest" ]] || continue
      for address in "${public[$to]-$router}" "${public6[$to]-$router6}"; do
        # The router's own address stands for the routed guest's outside.
        [[ $guest != inside || $address != "$router" ]] || continue
        guest_run "$guest" "ping -q -c 3 -i 0.1 -W 2 $address" >/dev/null || faults+=("$guest does not reach $to at $address")
      done
    done
  done
  leaked=$({ witness_seen ip-pairs && witness_seen ip6-pairs; } | awk '$2 ~ /^(203|2001)/ { frames += $3 } END { print frames + 0 }')
  ((leaked == 0)) || [[ $dut == kernel ]] || faults+=("$leaked packets of theirs to each other left by the uplink")
  say guests "each reaches the others and the router; $leaked packets of that left by the uplink"
  witness_judge
  judge each-other
}

# By the rules db is reached by web, and pinged by all. What is imported of the kernel has none of that.
check_policy() {
  [[ $dut == tapgate && -z ${CONFIGURATION-} ]] || return 0
  local from to at answer
  inside db busybox httpd -f -p 8080 -h "$state/web" &
  listening db "sport = :8080"
  for to in "${public[db]}" "${public6[db]}"; do
    at=$to
    [[ $to != *:* ]] || at=[$to]
    for from in web inside remote; do
      answer=$(served "$from" "http://$at:8080/cgi-bin/whoami" | tr -d '[]' || true)
      answer=${answer#::ffff:} # as its server says IPv4
      case $from,$answer in
        web,"${public[web]}" | web,"${public6[web]}" | inside, | remote,) ;;
        *) faults+=("$from asks db at $to, and is answered: ${answer:-nothing}") ;;
      esac
    done
  done
  say db "serves web, and nobody else, as the policy says"
  judge policy
}

# served WHO URL
served() {
  if [[ $1 == remote ]]; then
    inside remote timeout 2 busybox wget -q -O - "$2" 2>/dev/null
  else
    guest_run "$1" "timeout 2 busybox wget -q -O - $2" 2>/dev/null
  fi
}

# The MACs that web takes for its gateways', and its default routes: without what its kernel keeps of
# their use, which changes by itself.
gateways() {
  guest_run web "ip neigh show $provider; ip -6 neigh show $provider6; ip -6 route show default" |
    sed -E 's/(lladdr [0-9a-f:]+).*/\1/'
}

# db does all that a guest with root can do, to web, the gateway and the router.
check_attacker() {
  local known found pinging
  witness_reset
  known=$(gateways)
  guest_run web "ping -q -c 40 -i 0.1 -W 2 $remote" >"$state/ping" &
  pinging=$!
  inside inside ping -q -c 40 -i 0.1 -W 2 "$remote6" >"$state/ping6" &
  pinging+=" $!"
  inside db "$tools/attack" guest tap-db "${mac[db]}" "${public[db]}" "${public6[db]}" \
    "$(ip -n provider -j link show uplink | jq -r '.[0].address')" "$provider" "${public[web]}" "${public6[web]}" "$remote" \
    --rate 2000 --seconds 4 --seed 1 >"$state/attack" || faults+=("the attack did not run")
  # From other MACs than its own.
  inside db "$tools/hostile" tap-db 203.0.113.66 02:00:00:00:66:01 "$provider" \
    "$(ip -n provider -j link show uplink | jq -r '.[0].address')" --count 2000 --rate 2000 --seed 1 >/dev/null || faults+=("the attack did not run")
  # shellcheck disable=SC2086 # two words
  wait $pinging || true
  grep -q ' 0% packet loss' "$state/ping" || faults+=("web, meanwhile: $(grep 'packet loss' "$state/ping")")
  grep -q ' 0% packet loss' "$state/ping6" || faults+=("inside, meanwhile: $(grep 'packet loss' "$state/ping6")")
  found=$(gateways)
  [[ $found == "$known" ]] || faults+=("web's gateways were: ${known//$'\n'/, }; and are: ${found//$'\n'/, }")
  say db "attacks: $(paste -sd ' ' "$state/attack"); web, meanwhile: $(grep 'packet loss' "$state/ping")"
  if [[ $dut == tapgate ]]; then
    say router "counted of db: $(tapgate_ask show guests --json |
      jq -r '.[] | select(.name == "db") | .violations | to_entries | map("\(.key) \(.value)") | join(", ")')"
  fi
  witness_judge
  judge attacker
}

bridged
