# shellcheck shell=bash # sourced by lab.sh
# Scenario: scan              100,000 random targets of the /64 from the provider; pings to a guest lose nothing; any DUT
# tapgate answers for what is alive in the whole /64, so that it must ask its guests for each target:
# mail has an address that no configuration names. With DUT=kernel what is lost is only reported.
# Run: netns-scripts/lab.sh run scan [DUT=kernel]

recipe ovh-ipv6

scan() {
  local targets=100000 rate=10000 mac pings
  local alive=2001:db8:12:3401::99
  need_tool scan
  topology_up
  sed -e 's|^lan = { |&proxy = { personality = "host", alive = ["2001:db8:12:3401::/64"] }, |' \
    -e 's|device = "veth-mail"|&, source = "off"|' "$configuration" >"$state/scan.toml"
  configuration=$state/scan.toml
  router_start
  guest_configure db
  guest_configure mail
  pings mail 5 "$remote6" || fail "mail does not reach $remote6 before the test"
  ip -n mail address add $alive/128 dev eth0 nodad
  [[ $dut != kernel ]] || alive=${public6[mail]}
  local address
  for address in "${public6[db]}" $alive; do
    inside remote ping -q -c 3 -i 0.5 -W 2 "$address" | grep -q ' [1-3] received' || fail "$address does not answer before the test"
  done

  mac=$(ip -n provider -j link show uplink | jq -r '.[0].address')
  begin provider "scans"
  inside provider "$tools/scan" uplink "$provider6" "$mac" "$nic_mac" 2001:db8:12:3401::/64 \
    --count $targets --rate $rate >"$state/scan" &
  local scanning=$!
  # Both a neighbour that the provider knows and one that it must ask for anew.
  inside remote ping -q -c 450 -i 0.02 -W 2 "${public6[db]}" >"$state/ping" &
  local pinging=$!
  sleep 2
  ip -n provider neighbour flush to "$alive" dev uplink
  pings=$(inside remote ping -q -c 150 -i 0.02 -W 2 "$alive" || true)
  wait $pinging || true
  wait $scanning || fail "the scan failed"
  say provider "$(cat "$state/scan"), $rate a second: a neighbour solicitation and an echo request each"
  say remote "${public6[db]}: $(grep 'packet loss' "$state/ping")"
  say remote "$alive, asked for meanwhile: $(grep 'packet loss' <<<"$pings")"
  if [[ $dut == kernel ]]; then
    say router "the kernel's neighbours: $(ip -n router -6 neighbour | wc -l)"
    return
  fi
  [[ $(cat "$state/ping")$pings == *" 0% packet loss"*" 0% packet loss"* ]] || fail "pings were lost"
  local neighbors most deadline=$((SECONDS + 10))
  most=$(neighbors)
  ((most < 4096)) || fail "tapgate waits for $most neighbours"
  until neighbors=$(neighbors) && ((neighbors < 20)); do
    ((SECONDS < deadline)) || fail "tapgate still keeps $neighbors neighbours"
    sleep 0.5
  done
  say router "waited for $most neighbours, keeps $neighbors; drops: $(tapgate_ask show drops --json |
    jq -r 'sort_by(-.frames) | map("\(.reason) \(.frames)") | .[:4] | join(", ")')"
  witness_check
}

neighbors() {
  tapgate_ask show neighbors --json | jq length
}

scan
