# shellcheck shell=bash # sourced by lab.sh
# Scenario: natdiscovery      what a STUN client finds out about each NAT behaviour (RFC 5780); any DUT
# The kernel has one behaviour: with DUT=kernel the table says which.
# Run: netns-scripts/lab.sh run natdiscovery [DUT=kernel]
recipe multi-mac

second=198.51.100.2 # the STUN server's other address
local_port=5000
load=3000 # flows that are open beside it
rows=()

natdiscovery() {
  topology_up
  ip -n remote address add "$second/24" dev eth0
  # Its log is of use only if it does not answer.
  inside remote turnserver -n -S -L "$remote" -L "$second" --no-cli --no-tls --no-dtls \
    --pidfile "$state/turnserver.pid" --log-file stdout >"$state/turnserver.log" 2>&1 &
  router_start
  guest_configure guest-a
  pings guest-a || fail "no connection before the test"
  listening remote "src $second:3478"
  if [[ $dut == kernel ]]; then
    expect "iptables SNAT" 'Endpoint Independent' 'Address and Port Dependent' no
  else
    # Ports other than the client's, or it would keep its own and be no different towards anybody.
    behave 'ports = "40000-49999"'
    expect "nothing said" 'Endpoint Independent' 'Address and Port Dependent' no
    behave 'ports = "40000-49999", filtering = "address-dependent"'
    expect "address-dependent filtering" 'Endpoint Independent' 'Address Dependent' no
    behave 'ports = "40000-49999", filtering = "endpoint-independent"'
    expect "endpoint-independent filtering" 'Endpoint Independent' 'Endpoint Independent' yes
    open_flows
    expect "the same beside $load flows" 'Endpoint Independent' 'Endpoint Independent' yes
    behave 'ports = "40000-49999", mapping = "endpoint-dependent"'
    expect "endpoint-dependent mapping" 'Address and Port Dependent' 'Address and Port Dependent' no
    behave 'block = 252'
    expect "block = 252" 'Endpoint Independent' 'Address and Port Dependent' no
  fi
  printf '%-32s %-28s %-28s %s\n' "$dut" mapping filtering hairpin "${rows[@]}"
  witness_check
}

# behave KEYS: has guest-a's entry of nat.snat say KEYS as well. Mappings from before end.
behave() {
  local entry='{ from = "10.0.1.0\/24", to = "203.0.113.10"'
  sed "s/$entry }/$entry, $1 }/" "$configuration" >"$state/behaviour.toml"
  ! cmp -s "$configuration" "$state/behaviour.toml" || fail "the configuration has no such entry"
  tapgate_ask apply "$state/behaviour.toml" >/dev/null || fail "refused: $1"
}

# expect NAME MAPPING FILTERING HAIRPIN: what the client must find out.
expect() {
  local mapping filtering hairpin
  local_port=$((local_port + 10)) # what was found out before keeps no port open
  mapping=$(discover -m 0 | sed -n 's/^NAT with \(.*\) Mapping!$/\1/p')
  filtering=$(discover -f 2 | sed -n 's/^NAT with \(.*\) Filtering!$/\1/p')
  hairpin=$(discover -H 4 | grep -q 'successful hairpinning' && echo yes || echo no)
  rows+=("$1" "$mapping" "$filtering" "$hairpin")
  [[ $mapping == "$2" ]] || fail "$1: mapping is '$mapping', not '$2'"
  [[ $filtering == "$3" ]] || fail "$1: filtering is '$filtering', not '$3'"
  [[ $hairpin == "$4" ]] || fail "$1: hairpin is '$hairpin', not '$4'"
  say guest-a "$1: as it must be"
}

# discover OPTION N: what natdiscovery says, from the Nth port of these.
discover() {
  inside guest-a timeout 60 turnutils_natdiscovery "$1" -L "${address[guest-a]}" -l $((local_port + $2)) "$remote" 2>&1 || true
}

# Has guest-a open many flows, which stay for minutes.
open_flows() {
  # shellcheck disable=SC2016 # for the guest's shell to expand
  inside guest-a bash -c 'for ((n = 0; n < $1; n++)); do echo x >"/dev/udp/$2/$((10000 + n))"; done' \
    flows "$load" "$remote" 2>/dev/null || true
  local open
  open=$(tapgate_ask show sessions --json | jq length)
  ((open >= load)) || fail "only $open sessions are open"
}

natdiscovery
