# shellcheck shell=bash # sourced by lab.sh
# Scenario: grow              ports, guests and networks come and go beside 3 guests, then beside 10,000: nobody else notices
# Three guests send a datagram a millisecond each, all the time. With every change none of them may be
# lost, no neighbour asked for that was known, no address claimed or announced anew. A flow may stand
# still for less than 10 ms longer than the same flow without changes: a machine that is shared stands
# still now and then, by itself. What stops the router for 30 ms does so each time; so it is tried up
# to three times, and a time in which the flows without changes stood still for 20 ms says nothing.
# Run: netns-scripts/lab.sh run grow
recipe multi-mac
kind[guest-c]=veth own_mac[guest-c]=02:00:00:00:03:01
crowd_public=198.18.0.0/16 most_longer=10 most_quiet=20 attempts=3 # ms
assigned+=("${mac[guest-b]} . $crowd_public")
for guest in "${guests[@]}"; do assigned6+=("${mac[$guest]} . "{::,fe80::/10,2001:db8:12::/64}); done

grow() {
  local size guest dataplane
  ip netns add later
  for size in 0 10000; do configurations_write $size; done
  configuration=$state/0.toml
  topology_up
  router_start
  flows_serve
  for guest in "${guests[@]}"; do
    guest_configure "$guest"
    pings "$guest" 5 || fail "$guest has no connection before the test"
    question_count "$guest" "${device[$guest]}" "${address[$guest]}"
  done
  question_count provider uplink "$provider"
  dataplane=$(dataplane_pid)

  nobody_notices 0
  later_works
  crowd_arrives
  nobody_notices 10000
  [[ $(dataplane_pid) == "$dataplane" ]] || fail "the dataplane was $dataplane and is now $(dataplane_pid)"
  witness_check
}

# configurations_write CROWD: the recipe with so many guests more, CROWD.toml, and the same with each
# change, CROWD-CHANGE.toml.
configurations_write() {
  local change
  for change in '' port guest network; do
    configuration_write "$1" "$change" >"$state/$1${change:+-$change}.toml"
  done
}

# configuration_write CROWD CHANGE: the recipe with CROWD guests more in guest-b's network, ten behind
# each port, all with a public address; and with a port and its guest more in that network, a guest
# more behind guest-b's port, or a network more. The personalities have IPv6 addresses to be claimed.
configuration_write() {
  sed -e 's/, create = {}//' -e 's|addresses = \["203.0.113.\([0-9]*\)/32"|&, "2001:db8:12::\1/64"|' \
    -e '/^b = {/s|\["10.0.2.254/24"|&, "10.255.255.254/9"|' "$configuration" |
    awk -v crowd="$1" -v change="$2" '
      function low(number) { return int(number / 256) "." number % 256 }
      function mac(number) { return sprintf("02:11:00:00:%02x:%02x", int(number / 256), number % 256) }
      function guest(number, port) {
        print "[guests.g" number "]\nport = \"" port "\"\nmac = \"" mac(number) "\""
        print "addresses = [\"10.129." low(number) "\"]\npublic = [\"198.18." low(number) "\"]\npersonality = \"B\""
      }
      /^b = {/ {
        ports = change == "port" ? ", \"later\"" : ""
        for (port = 0; port < crowd / 10; port++) ports = ports ", \"m" port "\""
        sub(/"guest-b"/, "&" ports)
      }
      { print }
      END {
        print "[guests.b]\nport = \"guest-b\"\naddresses = [\"10.0.2.1\"]"
        for (port = 0; port < crowd / 10; port++) print "[ports.m" port "]\nmemory = true"
        for (number = 0; number < crowd; number++) guest(number, "m" int(number / 10))
        if (change == "guest") guest(crowd, "guest-b")
        if (change == "port") guest(crowd, "later")
        if (change ~ /port|network/)
          print "[ports.later]\ntap = \"tap-later\"\nnetns = \"later\"\nmac = \"" mac(crowd) "\""
        if (change == "network") print "[networks.later]\nports = [\"later\"]\naddresses = [\"10.0.9.254/24\"]"
      }'
}

# question_count NAMESPACE DEVICE ADDRESS: counts who asks all for the address. A probe of a known
# neighbour is unicast.
question_count() {
  inside "$1" nft -f - <<END
table netdev questions {
  counter asked {}
  chain in {
    type filter hook ingress device $2 priority 0; policy accept;
    ether type arp ether daddr ff:ff:ff:ff:ff:ff arp operation request arp daddr ip $3 counter name asked
  }
}
END
}

# What the changes must not add to: questions for known neighbours, and claims.
noticed() {
  local ns questions=0
  for ns in provider "${guests[@]}"; do
    questions=$((questions + $(inside "$ns" nft -j list counters | jq '[.nftables[].counter? // empty | .packets] | add')))
  done
  echo "$questions questions, $(counter arp_probes_sent duplicate_probes_sent) claims"
}

# counter NAME...: the sum of these counters of the router.
counter() {
  # shellcheck disable=SC2016 # jq's own
  tapgate_ask show counters --json |
    jq '[.[] | select(.name as $name | $ARGS.positional | index($name)) | .value] | add' --args "$@"
}

# nobody_notices CROWD: changes beside so many guests.
nobody_notices() {
  local attempt quiet noticed announced changes
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    flows_begin 3
    flows_judge
    quiet=$longest
    noticed=$(noticed) announced=$(counter arp_announcements_sent)
    flows_begin 5
    changes_make "$1"
    flows_judge
    say router "beside $1 guests: $changes changes, none of $total datagrams lost; longest gap $longest ms, without changes $quiet ms"
    [[ $(noticed) == "$noticed" ]] || fail "there were $noticed before, and now $(noticed)"
    announced=$(($(counter arp_announcements_sent) - announced))
    # A guest's address some times, the gateway's at a new port.
    ((announced <= 20 * changes)) || fail "$changes changes made $announced announcements"
    ((longest >= quiet + most_longer || quiet >= most_quiet)) || return 0
  done
  fail "with changes the flows stand still for $longest ms, without for $quiet ms"
}

# changes_make CROWD: makes each change and takes it back, one after the other while the flows run.
changes_make() {
  local files=("$1-port" "$1" "$1-guest" "$1" "$1-network" "$1")
  for ((changes = 0; ; changes++)); do
    kill -0 "${flow_pids[guest-a.echo]}" 2>/dev/null || break
    apply "${files[changes % 6]}"
    sleep 0.05
  done
  ((changes >= 6)) || fail "the flows were over after $changes changes"
}

apply() {
  tapgate_ask apply "$state/$1.toml" >"$state/apply.log" 2>&1 || fail "apply failed: $(cat "$state/apply.log")"
}

flows_begin() {
  local guest
  for guest in "${guests[@]}"; do flow_start "$guest" echo "$1" 1000; done
}

# Waits for the flows, sets $total and $longest; fails if one lost anything.
flows_judge() {
  local guest
  total=0 longest=0
  for guest in "${guests[@]}"; do
    flow_end "$guest" echo
    ((lost == 0)) || fail "$guest lost $lost of $((received + lost)) datagrams"
    total=$((total + received))
    ((gap_ms <= longest)) || longest=$gap_ms
  done
}

# What an apply adds is there, and gone when it is taken back.
later_works() {
  apply 0-port
  inside later sh -c 'ip link set tap-later up &&
    ip address add 10.129.0.0/9 dev tap-later && ip route add default via 10.255.255.254'
  inside later ping -q -c 3 -i 0.2 -W 2 10.255.255.254 >/dev/null || fail "a guest that an apply added has no gateway"
  apply 0
  ! ip -n later link show tap-later >/dev/null 2>&1 || fail "a port that an apply took away is still there"
}

# 10,000 guests at once, and the announcing of all their addresses.
crowd_arrives() {
  local before announced=0
  flows_begin 4
  apply 10000
  flows_judge
  say router "10000 guests more: none of $total datagrams lost, longest gap $longest ms"
  until before=$announced announced=$(counter arp_announcements_sent) && ((announced == before)); do sleep 1; done
}

grow
