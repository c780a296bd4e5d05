#!/usr/bin/env bash
# The provider's witness: records, with nftables, which source MAC each frame from the router
# wears and which address it claims, and passes only the pairs that the provider has assigned.
# Sourced. Run: netns-scripts/lab.sh up, then netns-scripts/lab.sh witness

# Every frame counts in exactly one of three sets:
#   ip-pairs   MAC, source address         IPv4
#   arp-pairs  MAC, sender MAC, address    ARP
#   others     MAC, EtherType              anything else
witness_start() {
  local guest assigned=()
  for guest in "${guests[@]}"; do assigned+=("${mac[$guest]} . ${public[$guest]}"); done
  inside provider nft -f - <<END
table netdev witness {
  set ip-pairs { type ether_addr . ipv4_addr; size 65536; flags dynamic; counter; }
  set arp-pairs { type ether_addr . ether_addr . ipv4_addr; size 65536; flags dynamic; counter; }
  set others { type ether_addr . ether_type; size 65536; flags dynamic; counter; }
  set assigned { type ether_addr . ipv4_addr; elements = { $(IFS=,; echo "${assigned[*]}") } }
  chain from-router {
    type filter hook ingress device uplink priority 0; policy drop;
    ether type ip update @ip-pairs { ether saddr . ip saddr counter }
    ether type arp update @arp-pairs { ether saddr . arp saddr ether . arp saddr ip counter }
    ether type != { ip, arp } update @others { ether saddr . ether type counter }
    ether type ip ether saddr . ip saddr @assigned accept
    ether type arp ether saddr . arp saddr ip @assigned accept
  }
}
END
}

# Forgets what was seen so far.
witness_reset() {
  local set
  for set in ip-pairs arp-pairs others; do inside provider nft flush set netdev witness "$set"; done
}

# witness_seen SET: one line for each combination seen: its fields, then the frames counted.
witness_seen() {
  inside provider nft -j list set netdev witness "$1" |
    jq -r '.nftables[].set? // empty | .elem // [] | .[].elem | (.val.concat + [.counter.packets]) | map(tostring) | join(" ")'
}

# witness_faults: one line for each combination that the provider has not assigned. Also counts
# its own full set as a fault, since frames could then go unseen.
witness_faults() {
  local set frame_mac sender_mac seen count known guest
  local -A owner
  for guest in "${guests[@]}"; do owner[${public[$guest]}]=${mac[$guest]}; done
  while read -r frame_mac seen count; do
    [[ ${owner[$seen]-} == "$frame_mac" ]] || echo "IPv4 from $seen wears $frame_mac ($count frames)"
  done < <(witness_seen ip-pairs)
  while read -r frame_mac sender_mac seen count; do
    [[ ${owner[$seen]-} == "$frame_mac" && $frame_mac == "$sender_mac" ]] ||
      echo "ARP from $seen, sender MAC $sender_mac, wears $frame_mac ($count frames)"
  done < <(witness_seen arp-pairs)
  while read -r frame_mac seen count; do
    echo "EtherType $seen wears $frame_mac ($count frames)"
  done < <(witness_seen others)
  for set in ip-pairs arp-pairs others; do
    known=$(witness_seen "$set" | wc -l)
    ((known < 65536)) || echo "the witness's set $set is full"
  done
}

# witness_check: fails unless every frame so far wore an assigned pair.
witness_check() {
  local faults
  faults=$(witness_faults)
  [[ -z $faults ]] || fail "the provider saw what it has not assigned:"$'\n'"$faults"
}
