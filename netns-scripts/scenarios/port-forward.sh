# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: port-forward      two addresses for two web servers, only the web's ports open; any DUT
# Each guest leaves by its own address and MAC; from outside only what is open answers, and sees who
# asks; guests reach each other at the addresses outside. Ends with a table.
# Run: netns-scripts/lab.sh run port-forward [DUT=kernel]

recipe port-forward

port_forward() {
  topology_up
  host_sessions
  say provider "ties $host, ${public[web1]} and ${public[web2]} to one MAC each; gateway $provider"
  router_start
  if [[ $dut == kernel ]]; then
    say router "the kernel: two macvlan devices, ip rule, iptables DNAT and SNAT, a forward chain"
  else
    say router "tapgate run ${configuration##*/}"
  fi
  vm_start
  services_start
  say remote "$remote serves 100 MB over HTTP"
  begin web1 "the VM is booting (QEMU without KVM)"
  guest_configure web2
  guest_configure db
  vm_wait
  guest_configure web1
  say web1 "the VM is up: $(guest_run web1 'uname -sr')"

  local guest
  for guest in "${guests[@]}"; do check_way_out "$guest"; done
  check_ways_in
  check_other_protocols
  check_host
  check_stranger
  print_table '%-8s %-16s %-6s %-14s %-14s' from to port expected is
  verdict_check
  say provider "every frame wore an assigned MAC and address"
}

# A guest leaves by its own address and MAC.
check_way_out() {
  local worn
  witness_reset
  check_ping "$1" "$remote"
  check_seen "$1" "$remote" "${public[$1]}"
  check_download "$1" "$remote"
  worn=$(witness_seen ip-pairs | awk -v of="${public[$1]}" '$2 == of { print $1 }' | paste -sd ,)
  [[ $worn == "${mac[$1]}" ]] || faults+=("its flows wore: ${worn:-nothing}")
  witness_judge
  judge "$1"
}

# What is open, from where, and what is not.
check_ways_in() {
  local guest
  witness_reset
  for guest in "${guests[@]}"; do answers_at "$guest" 22; done
  for guest in web1 web2; do web_at "$guest"; done
  check_web remote "${public[web1]}" "$remote"
  check_web remote "${public[web2]}" "$remote"
  check_web web2 "${public[web1]}" "${public[web2]}" # hairpin
  check_web db "${public[web2]}" "$host"
  check_web db "${address[web2]}" "${address[db]}"
  check_reach remote "${public[web1]}" 22 silent
  check_reach remote "${public[web2]}" 8080 silent
  check_reach remote "$host" 2222 db
  # One who knows the addresses inside, and has a route to them.
  ip -n provider route add "${address[db]}" via "$host"
  check_reach remote "${address[db]}" 22 silent
  ip -n provider route delete "${address[db]}"
  inside remote ping -q -c 3 -i 0.1 -W 2 "${public[web2]}" >/dev/null || faults+=("${public[web2]} does not answer a ping")
  witness_judge
  judge provider
}

# The forwarded port is there for one source. Others are told nothing, since it is the host's no more; the
# kernel says that nothing listens.
check_stranger() {
  local answer=silent
  [[ $dut != kernel ]] || answer=told
  inside remote ip route replace default via 203.0.113.254 src "$stranger"
  check_reach remote "$host" 2222 $answer
}

# web_at GUEST: serves on port 80 a page that tells who asks.
web_at() {
  guest_run "$1" "mkdir -p /tmp/$1/cgi-bin; cd /tmp/$1; printf '%s\n%s\n' '#!/bin/busybox sh' \
    'printf \"\\n\$REMOTE_ADDR\\n\"' >cgi-bin/whoami; chmod 755 cgi-bin/whoami; busybox httpd -p 80 -h /tmp/$1"
  guest_run "$1" "for i in 1 2 3 4 5 6 7 8 9; do busybox netstat -ltn | grep -q :80 && break; sleep 0.1; done"
}

# check_web WHO ADDRESS EXPECTED: a row of the table: whom the web server there sees.
check_web() {
  local run=(inside "$1" sh -c) is
  [[ ! ${kind[$1]-} ]] || run=(guest_run "$1")
  is=$("${run[@]}" "timeout 3 busybox wget -q -O - http://$2/cgi-bin/whoami 2>/dev/null" || true)
  is=${is##*:} # IPv4 as an IPv6 server has it
  is=${is%]}
  [[ $is == "$3" ]] || faults+=("the server at $2 sees ${is:-nobody} in place of $1, not $3")
  judge "$1"
  rows+=("$1|$2|80|$3|${is:--}|$verdict")
}

# A protocol without ports, both ways: an address of its own is its own for all of them.
check_other_protocols() {
  local got
  witness_reset
  inside remote timeout 8 socat -u "IP4-RECV:253" "CREATE:$state/got" &
  local listener=$!
  sleep 0.3
  inside web2 socat -u - "IP4-SENDTO:$remote:253" <<<'from web2'
  sleep 0.3
  kill $listener 2>/dev/null || true
  wait $listener 2>/dev/null || true
  got=$(tr -d '\0' <"$state/got" | tail -c 10)
  [[ $got == *"from web2"* ]] || faults+=("a packet of protocol 253 from web2 did not arrive: ${got@Q}")
  say web2 "protocol 253 to $remote: ${got:-nothing}"
  witness_judge
  judge web2
}

port_forward
