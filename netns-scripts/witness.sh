#!/usr/bin/env bash
# The provider's witness: records, with nftables, which source MAC each frame from the router
# wears and which address it claims, and passes only the pairs that the provider has assigned:
# the recipe's `assigned` (IPv4, ARP) and `assigned6`, each "MAC . ADDRESS" or "MAC . PREFIX".
# Sourced. Run: netns-scripts/lab.sh up, then netns-scripts/lab.sh witness

# Every frame counts in exactly one of the first four sets, and in `…-faults` if not assigned:
#   ip-pairs   MAC, source address         IPv4
#   ip6-pairs  MAC, source address         IPv6
#   arp-pairs  MAC, sender MAC, address    ARP
#   others     MAC, EtherType              anything else: a fault
#   resets     source, destination         TCP resets, by address and port
witness_start() {
  local ipv4 ipv6
  ipv4=$(IFS=,; echo "${assigned[*]}")
  ipv6=$(IFS=,; echo "${assigned6[*]-}")
  inside provider nft -f - <<END
table netdev witness {
  set ip-pairs { type ether_addr . ipv4_addr; size 65536; flags dynamic; counter; }
  set ip6-pairs { type ether_addr . ipv6_addr; size 65536; flags dynamic; counter; }
  set arp-pairs { type ether_addr . ether_addr . ipv4_addr; size 65536; flags dynamic; counter; }
  set others { type ether_addr . ether_type; size 65536; flags dynamic; counter; }
  set ip-faults { type ether_addr . ipv4_addr; size 65536; flags dynamic; counter; }
  set ip6-faults { type ether_addr . ipv6_addr; size 65536; flags dynamic; counter; }
  set arp-faults { type ether_addr . ether_addr . ipv4_addr; size 65536; flags dynamic; counter; }
  set resets { type ipv4_addr . inet_service . ipv4_addr . inet_service; size 65536; flags dynamic; counter; }
  set assigned { type ether_addr . ipv4_addr; flags interval; elements = { $ipv4 } }
  set assigned6 { type ether_addr . ipv6_addr; flags interval; ${ipv6:+elements = { $ipv6 \}} }
  chain from-router {
    type filter hook ingress device uplink priority 0; policy drop;
    ether type ip update @ip-pairs { ether saddr . ip saddr counter }
    ether type ip6 update @ip6-pairs { ether saddr . ip6 saddr counter }
    ether type arp update @arp-pairs { ether saddr . arp saddr ether . arp saddr ip counter }
    ether type != { ip, ip6, arp } update @others { ether saddr . ether type counter }
    ip protocol tcp tcp flags & rst == rst update @resets { ip saddr . tcp sport . ip daddr . tcp dport counter }
    ether type ip ether saddr . ip saddr @assigned accept
    ether type ip6 ether saddr . ip6 saddr @assigned6 accept
    ether type arp arp saddr ether . arp saddr ip @assigned ether saddr . arp saddr ip @assigned accept
    ether type ip update @ip-faults { ether saddr . ip saddr counter }
    ether type ip6 update @ip6-faults { ether saddr . ip6 saddr counter }
    ether type arp update @arp-faults { ether saddr . arp saddr ether . arp saddr ip counter }
  }
}
END
}

# Forgets what was seen so far, but for TCP resets.
witness_reset() {
  local set
  for set in {ip,ip6,arp}-{pairs,faults} others; do inside provider nft flush set netdev witness "$set"; done
}

# witness_seen SET: one line for each combination seen: its fields, then the frames counted.
witness_seen() {
  inside provider nft -j list set netdev witness "$1" |
    jq -r '.nftables[].set? // empty | .elem // [] | .[].elem | (.val.concat + [.counter.packets]) | map(tostring) | join(" ")'
}

# witness_faults: one line for each combination that the provider has not assigned. Also counts
# its own full set as a fault, since frames could then go unseen.
witness_faults() {
  local set frame_mac sender_mac seen count known
  for set in ip ip6; do
    while read -r frame_mac seen count; do
      echo "IP from $seen wears $frame_mac ($count frames)"
    done < <(witness_seen $set-faults)
  done
  while read -r frame_mac sender_mac seen count; do
    echo "ARP from $seen, sender MAC $sender_mac, wears $frame_mac ($count frames)"
  done < <(witness_seen arp-faults)
  while read -r frame_mac seen count; do
    echo "EtherType $seen wears $frame_mac ($count frames)"
  done < <(witness_seen others)
  for set in {ip,ip6,arp}-pairs others; do
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
