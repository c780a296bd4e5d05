# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: two-uplinks       a gateway falls silent, a link goes down, and both come back; flows by both; any DUT
# With DUT=kernel no gateway falls silent: the kernel needs a program beside it to notice. What is imported of it
# has no probes, so tapgate notices by its neighbours, which takes longer.
# Run: netns-scripts/lab.sh run two-uplinks [DUT=kernel]

recipe two-uplinks

two_uplinks() {
  topology_up
  router_start
  vm_start
  services_start
  vm_wait
  local guest
  for guest in "${guests[@]}"; do guest_configure "$guest"; done
  leaves_by desk "$first" 5

  answers_at desk 22
  comes_by_second
  by_both lap

  if [[ $dut == tapgate ]]; then
    local silent=6
    grep -q 'probe =' "$configuration" || silent=60
    state_of "$provider" up
    inside provider nft add table netdev silent
    inside provider nft add chain netdev silent nobody '{ type filter hook ingress device uplink priority -10; policy drop; }'
    leaves_by desk "$second" "$silent"
    state_of "$provider" down "no answer"
    only_by lap "$second"
    if ((silent == 6)); then
      # A new dataplane finds out itself, by its first probes.
      kill -KILL "$(dataplane_pid)"
      leaves_by desk "$second" 6
      only_by lap "$second"
      state_of "$provider" down "no answer"
    fi
    inside provider nft delete table netdev silent
    leaves_by desk "$first" 8
    state_of "$provider" up
  fi

  ip -n provider link set uplink down
  leaves_by desk "$second" 2
  only_by lap "$second"
  [[ $dut != tapgate ]] || state_of "$provider" down "link down"
  ip -n provider link set uplink up
  leaves_by desk "$first" 10
  comes_by_second
  witness_check
}

# A connection from outside to the second's address is answered by it, although the first is the default.
comes_by_second() {
  local who
  who=$(reach remote "$second" 8022)
  [[ $who == desk ]] || fail "$second port 8022 is answered by $who, not by desk"
  say desk "what came by the second uplink is answered by it"
}

# The address that the remote host sees of a guest; nothing if it gets no answer in a second.
whoami() {
  guest_run "$1" "timeout 1 busybox wget -q -O - http://$remote/cgi-bin/whoami 2>/dev/null" || true
}

# leaves_by GUEST ADDRESS SECONDS: within that time new connections have this address.
leaves_by() {
  local begun=$EPOCHREALTIME seen=''
  until seen=$(whoami "$1") && [[ $seen == "$2" ]]; do
    (($(seconds_since "$begun" | cut -d . -f 1) < $3)) || fail "$1 leaves by ${seen:-nothing} after $3 s, not by $2"
    sleep 0.05
  done
  say "$1" "leaves by $2 after $(seconds_since "$begun") s"
}

# Some of a guest's connections leave by either.
by_both() {
  local seen=() try
  for ((try = 0; try < 24; try++)); do seen+=("$(whoami "$1")"); done
  local all
  all=$(printf '%s\n' "${seen[@]}" | sort | uniq -c | tr -s ' \n' ' ')
  [[ $all == *"$first"* && $all == *"$second"* ]] || fail "$1 leaves by$all"
  say "$1" "its connections leave by both:$all"
}

# All of a guest's connections leave by an address.
only_by() {
  local try seen
  for ((try = 0; try < 8; try++)); do
    seen=$(whoami "$1")
    [[ $seen == "$2" ]] || fail "$1 leaves by ${seen:-nothing}, not by $2"
  done
  say "$1" "all its connections leave by $2"
}

# state_of GATEWAY STATE [REASON]: what `tapgate show routes` tells of it.
state_of() {
  local told
  told=$(tapgate_ask show routes --json | jq -r --arg via "$1" \
    '[.[].nexthops[] | select(.via == $via) | .health | "\(.state) \(.reason // "")"] | unique[]' | sort -u)
  [[ $told == "$2 ${3-}" ]] || fail "tapgate show routes tells of $1: $told, not $2 ${3-}"
  say router "tapgate show routes: $1 is $2${3:+, $3}"
}

two_uplinks
