# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: cloud-multiport   a VM's two ports in one subnet, floating addresses, a virtual address that keepalived moves; any DUT
# Every address has its own outside, and its packets stay on its port. The virtual one is reached where
# keepalived has it, within 100 ms of its announcement; nobody else gets it. With DUT=kernel a bridge believes
# everybody.
# Run: netns-scripts/lab.sh run cloud-multiport [DUT=kernel]

recipe cloud-multiport

cloud_multiport() {
  topology_up
  router_start
  vm_start
  services_start
  vm_wait
  local guest
  for guest in "${guests[@]}"; do guest_configure "$guest"; done

  own_outside one "${address[one]}" vm-one
  own_outside two "${address[two]}" vm-two
  own_outside one "$extra" vm-one
  # The kernel's setup, imported, has no metadata.
  [[ $dut != tapgate || ${CONFIGURATION-} ]] || told

  vrrp ha-a 150
  has_it ha-a ''
  vrrp ha-b 100
  # A machine that is shared may stop a processor for longer than that: three times are chance no more.
  local late=1 round
  for ((round = 0; round < 3 && late; round++)); do
    late=0
    there_and_back
  done
  ((late == 0)) || fail "three times a new holder of $virtual waited longer than 100 ms for the first packet"
  witness_check
}

# The virtual address goes to ha-b, and back.
there_and_back() {
  moves ha-a ha-b dies
  ip -n ha-a address flush dev "${device[ha-a]}"
  ip -n ha-a link set "${device[ha-a]}" up
  if [[ $dut == tapgate ]]; then restarted ha-b; fi
  stolen ha-b
  moves ha-b ha-a comes_back
}

# own_outside GUEST ADDRESS PORT: what the VM sends from it is seen under its floating address, and passes by
# its port both ways.
own_outside() {
  local outside=${floating[$2]} seen other=vm-one
  [[ $3 == vm-two ]] || other=vm-two
  capture "$3"
  capture "$other"
  seen=$(vm_run "curl -sg --max-time 5 --interface $2 http://$remote/cgi-bin/whoami" || true)
  [[ $seen == "$outside" ]] || fail "curl from $2 is seen as ${seen:-nobody}, not $outside"
  vm_run "ping -q -c 3 -i 0.2 -W 2 -I $2 $remote" >/dev/null || fail "ping from $2 is not answered"
  inside remote ping -q -c 3 -i 0.2 -W 2 "$outside" >/dev/null || fail "$outside does not answer the remote host"
  local both
  both=$(captured "$3" "src host $2" "dst host $2")
  [[ $both != *' 0 '* && $both != '0 '* ]] || fail "of $2 passed by $3: $both packets"
  [[ $(captured "$other" "host $2") == '0 ' ]] || fail "packets of $2 passed by $other too"
  say "$1" "$2 is $outside outside; by $3 passed $both packets out and in, by $other none"
}

# capture PORT: what passes there from now on.
capture() {
  inside router tcpdump -q -U -n -i "$1" -w "$state/$1.pcap" ip 2>"$state/$1.tcpdump" &
  echo $! >"$state/$1.capture"
  captures "$state/$1.tcpdump"
}

# captures FILE: waits until the tcpdump that writes there captures.
captures() {
  local deadline=$((SECONDS + 5))
  until grep -q 'listening on' "$1" 2>/dev/null; do
    ((SECONDS < deadline)) || fail "tcpdump does not capture: $(cat "$1")"
    sleep 0.02
  done
}

# captured PORT FILTER...: how many packets passed each filter. Ends the capture with the first call.
captured() {
  local filter pid
  if pid=$(cat "$state/$1.capture" 2>/dev/null); then
    sleep 0.2
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -f "$state/$1.capture"
  fi
  for filter in "${@:2}"; do printf '%s ' "$(tcpdump -n -r "$state/$1.pcap" "$filter" 2>/dev/null | wc -l)"; done
}

# What each port is told by metadata, over the route of option 121.
told() {
  local lease who
  lease=$(vm_run "ip route del default; udhcpc -n -q -i eth0 -O staticroutes -s /etc/udhcpc.sh -t 5 -T 1 2>&1" || true)
  vm_run "ip route" | grep -q '^169.254.169.254 ' || fail "no route to 169.254.169.254 came by option 121: $lease"
  for who in one two; do
    local seen
    seen=$(vm_run "curl -sg --max-time 5 --interface ${address[$who]} http://169.254.169.254/latest/meta-data/instance-id; echo")
    [[ $seen == "i-$who" ]] || fail "at ${address[$who]} metadata says ${seen:-nothing}, not i-$who"
  done
  say one "its port is i-one, its other one i-two, by a route of option 121"
}

# vrrp GUEST PRIORITY: keepalived begins in a guest. What the other sent while nobody was there waits at the router
# and comes all at once: it is not answered with an announcement each.
vrrp() {
  local peer=ha-a
  [[ $1 != ha-a ]] || peer=ha-b
  cat >"$state/$1.conf" <<EOF
global_defs {
  router_id $1
  vrrp_version 3
  vrrp_garp_master_delay 1
  vrrp_garp_lower_prio_repeat 0
  vrrp_lower_prio_no_advert true
}
vrrp_instance virtual {
  state BACKUP
  interface ${device[$1]}
  virtual_router_id 51
  priority $2
  advert_int 0.1
  unicast_src_ip ${address[$1]}
  unicast_peer { ${address[$peer]} }
  virtual_ipaddress { $virtual/24 dev ${device[$1]} }
}
EOF
  ip netns exec "$1" keepalived --dont-fork --log-console --log-detail --vrrp -f "$state/$1.conf" \
    -p "$state/$1.pid" -r "$state/$1.vrrp" >>"$state/$1.log" 2>&1 &
  disown $!
  local deadline=$((SECONDS + 5))
  until [[ -s $state/$1.pid && -s $state/$1.vrrp ]]; do
    ((SECONDS < deadline)) || fail "keepalived does not run in $1: $(tail -n 5 "$state/$1.log")"
    sleep 0.02
  done
}

# has_it GUEST WHY: within 3 s the remote host and another guest reach the virtual address there.
has_it() {
  local deadline=$((SECONDS + 3))
  until ip -n "$1" address show dev "${device[$1]}" | grep -q "$virtual/" && answers "$1"; do
    ((SECONDS < deadline)) || fail "$1 does not get what is for ${floating[$virtual]}$2: $(tail -n 3 "$state/$1.log")"
    sleep 0.05
  done
  vm_run "ping -q -c 2 -i 0.2 -W 1 $virtual" >/dev/null || fail "the VM does not reach $virtual$2"
  say "$1" "it has $virtual$2, and gets what is for ${floating[$virtual]}"
}

# Whether a ping from outside arrives at the guest.
answers() {
  local before
  before=$(echoes "$1")
  inside remote ping -q -c 1 -W 1 "${floating[$virtual]}" >/dev/null && (($(echoes "$1") > before))
}

# The echo requests that a guest's kernel got.
echoes() {
  inside "$1" nstat -az IcmpInEchos | awk '/IcmpInEchos/ { print $2 }'
}

# ha-a dies.
dies() {
  local pids
  pids=$(cat "$state/ha-a.pid" "$state/ha-a.vrrp")
  # shellcheck disable=SC2086 # two of them
  kill -KILL $pids
  ip -n ha-a link set "${device[ha-a]}" down
}

# It comes back, and has the higher priority.
comes_back() {
  rm -f "$state/ha-a.pid" "$state/ha-a.vrrp"
  guest_configure ha-a
  vrrp ha-a 150
}

# moves FROM TO COMMAND: the address moves under a ping each 10 ms. If the first that the new holder gets comes
# more than 100 ms after its announcement, `late` is set.
moves() {
  local pid log=$state/moves.log took lost
  inside "$2" tcpdump -n -tt -l -i "${device[$2]}" "arp src host $virtual or icmp[icmptype] == icmp-echo" \
    >"$log" 2>"$state/moves.tcpdump" &
  pid=$!
  captures "$state/moves.tcpdump"
  inside remote ping -q -c 300 -i 0.01 "${floating[$virtual]}" >"$state/moves.ping" 2>&1 &
  local pinging=$!
  sleep 0.5
  $3
  wait "$pinging" || true
  kill "$pid" && wait "$pid" 2>/dev/null || true
  took=$(awk '/ARP/ && !said { said = $1 } /echo request/ && said && $1 >= said { printf "%d\n", ($1 - said) * 1000; exit }' "$log")
  [[ $took ]] || fail "$2 announced $virtual and got nothing: $(tail -n 3 "$log"; tail -n 3 "$state/$2.log")"
  lost=$(sed -n 's/.* received, \(.*\) packet loss.*/\1/p' "$state/moves.ping")
  ((took <= 100)) || late=1
  has_it "$2" " from $1, the first packet $took ms after its announcement, $lost of 3 s lost"
  [[ $dut == kernel ]] || tells_of "$1" "$2"
}

# tells_of FROM TO: the log's last word of the address is that.
tells_of() {
  local told
  told=$(grep "virtual address taken over" "$state/tapgate.log" | grep "$virtual" | tail -n 1)
  # Imported guests have the names of their ports.
  [[ $told =~ from=\"(port-)?$1\"\ to=\"(port-)?$2\" ]] || fail "the log tells of $virtual: ${told:-nothing}, not from $1 to $2"
}

# A dataplane that is started anew asks who has the address.
restarted() {
  local before
  before=$(dataplane_pid)
  kill -KILL "$before"
  local deadline=$((SECONDS + 10))
  until [[ $(dataplane_pid) && $(dataplane_pid) != "$before" ]] && tapgate_ask status >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "no dataplane after 10 s"
    sleep 0.05
  done
  has_it "$1" " after the dataplane's death"
}

# stolen GUEST: the VM, which does not list the virtual address, announces it: that is dropped, and counted. The
# kernel's bridge believes it.
stolen() {
  local announce="ip address add $virtual/32 dev eth0; arping -q -U -c 2 -w 1 -I eth0 -s $virtual $virtual"
  vm_run "$announce; ip address del $virtual/32 dev eth0" >/dev/null || true
  if [[ $dut == kernel ]]; then
    ! answers "$1" || fail "the kernel was to believe the VM, and did not"
    say router "as expected of the kernel: it believes the VM, which announces $virtual"
    return
  fi
  has_it "$1" " although the VM announces it"
  tapgate_ask show guests --json | jq -e --arg own "${address[one]}" \
    '.[] | select(.addresses | index($own)) | .violations["spoofed-arp"] >= 1' >/dev/null ||
    fail "tapgate show guests does not count the VM's announcement"
}

cloud_multiport
