# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: hetzner-routed    single addresses, a /29 and an IPv6 prefix on one MAC, isolated guests; any DUT
# The VM is installed with a private address by DHCP, then has its public one. Each guest pings, asks
# the web server which address it sees, downloads 100 MB over both families; all eight addresses of
# the /29 work; a guest that takes another's address gets nowhere. Ends with a table.
# Run: netns-scripts/lab.sh run hetzner-routed [DUT=kernel]

recipe hetzner-routed

hetzner_routed() {
  topology_up
  host_sessions
  say provider "one MAC: $host, ${public[a]}, ${public[b]}, ${public[c]}; 192.0.2.8/29 and 2001:db8:77::/64 routed to it"
  router_start
  if [[ $dut == kernel ]]; then
    say router "the kernel: routes, ARP proxies, iptables SNAT, udhcpd"
  else
    say router "tapgate run ${configuration##*/}"
  fi
  vm_start
  services_start
  say remote "$remote and $remote6 serve 100 MB over HTTP"
  begin a "the VM is booting (QEMU without KVM)"
  guest_configure b
  guest_configure c
  vm_wait
  say a "the VM is up: $(guest_run a 'uname -sr')"
  check_installation
  guest_configure a

  local guest
  for guest in "${guests[@]}"; do check_guest "$guest" "${public[$guest]}" "${public6[$guest]}"; done
  check_the_29
  check_thief
  check_host
  print_guests
  verdict_check
  say provider "every frame wore $nic_mac, and an address assigned to it"
}

# The VM by DHCP: a private address, which the world sees as the host's.
check_installation() {
  local lease
  begin a "asks for an address by DHCP"
  lease=$(guest_run a "ip link set eth0 up; udhcpc -n -q -i eth0 -s /etc/udhcpc.sh -t 5 -T 1 2>&1" || true)
  [[ $lease == *"lease of ${private[a]} obtained"* ]] || faults+=("DHCP: ${lease//$'\n'/; }")
  check_ping a "$remote"
  check_seen a "$remote" "$host"
  say a "installation: $(sed -n 's/.*lease of \([^ ]*\) obtained.*/\1 by DHCP/p' <<<"$lease"), seen as ${seen:-nobody}"
  witness_judge
  judge installation
}

# Each of the eight addresses reaches and is reached, as itself.
check_the_29() {
  local guest address
  witness_reset
  for guest in b c; do
    for address in ${of_the_29[$guest]}; do
      check_from_outside "$address"
      guest_run "$guest" "ip route replace default via ${gateway[$guest]} src $address"
      check_seen "$guest" "$remote" "$address"
    done
    guest_run "$guest" "ip route replace default via ${gateway[$guest]} src ${public[$guest]}"
    say "$guest" "${of_the_29[$guest]}: each reached, and seen as itself"
  done
  witness_judge
  judge /29
}

# Guest c takes b's addresses: nothing of it gets out, nothing comes to it, and b is undisturbed.
check_thief() {
  local address thieves
  inside remote nft 'add table inet thief; add chain inet thief in { type filter hook input priority 0; };
    add rule inet thief in meta length { 1151, 1171 } counter'
  inside remote ping -q -c 60 -i 0.05 -W 2 "${public[b]}" >"$state/ping" &
  local pinging=$!
  inside c ip address add "${public[b]}/32" dev eth0
  inside c ip address add 192.0.2.8/32 dev eth0
  inside c ip -6 address add "${public6[b]}/128" dev eth0 nodad
  guest_run c "arping -q -U -c 2 -w 2 -I eth0 ${public[b]}" || true
  for address in "${public[b]} $remote" "192.0.2.8 $remote" "${public6[b]} $remote6"; do
    # Of a size that nobody else sends.
    ! inside c ping -q -c 3 -i 0.1 -W 1 -s 1123 -I "${address% *}" "${address#* }" >/dev/null ||
      faults+=("c is answered as ${address% *}, which is b's")
  done
  wait $pinging || true
  grep -q ' 0% packet loss' "$state/ping" || faults+=("b, meanwhile: $(grep 'packet loss' "$state/ping")")
  thieves=$(inside remote nft -j list table inet thief | jq '[.. | .packets? // empty] | add')
  ((thieves == 0)) || faults+=("$thieves packets of c reached the remote host in b's name")
  inside c ip address delete "${public[b]}/32" dev eth0
  inside c ip address delete 192.0.2.8/32 dev eth0
  inside c ip -6 address delete "${public6[b]}/128" dev eth0
  say c "takes b's addresses: $thieves packets get out; b, meanwhile: $(grep 'packet loss' "$state/ping")"
  judge thief
}

hetzner_routed
