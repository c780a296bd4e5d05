# shellcheck shell=bash # sourced by lab.sh
# Scenario: scan              100,000 random targets of the /64 from the provider; pings to a guest lose nothing; any DUT
# With DUT=kernel what is lost is only reported.
# Run: netns-scripts/lab.sh run scan [DUT=kernel]

recipe ovh-ipv6

scan() {
  local targets=100000 rate=10000 mac pings
  need_tool scan
  topology_up
  router_start
  guest_configure db
  guest_configure mail
  pings mail 5 "$remote6" || fail "mail does not reach $remote6 before the test"
  inside remote ping -q -c 1 -W 2 "${public6[db]}" >/dev/null || fail "${public6[db]} does not answer before the test"

  mac=$(ip -n provider -j link show uplink | jq -r '.[0].address')
  begin provider "scans"
  inside provider "$tools/scan" uplink "$provider6" "$mac" "$nic_mac" 2001:db8:12:3401::/64 \
    --count $targets --rate $rate >"$state/scan" &
  local scanning=$!
  # Both a neighbour that the provider knows and one that it must ask for anew.
  inside remote ping -q -c 450 -i 0.02 -W 2 "${public6[db]}" >"$state/ping" &
  local pinging=$!
  sleep 2
  ip -n provider neighbour flush to "${public6[mail]}" dev uplink
  pings=$(inside remote ping -q -c 150 -i 0.02 -W 2 "${public6[mail]}" || true)
  wait $pinging || true
  wait $scanning || fail "the scan failed"
  say provider "$(cat "$state/scan"), $rate a second: a neighbour solicitation and an echo request each"
  say remote "${public6[db]}: $(grep 'packet loss' "$state/ping")"
  say remote "${public6[mail]}, asked for meanwhile: $(grep 'packet loss' <<<"$pings")"
  if [[ $dut == kernel ]]; then
    say router "the kernel's neighbours: $(ip -n router -6 neighbour | wc -l)"
    return
  fi
  [[ $(cat "$state/ping")$pings == *" 0% packet loss"*" 0% packet loss"* ]] || fail "pings were lost"
  local neighbors
  neighbors=$(tapgate_ask show neighbors --json | jq length)
  ((neighbors < 100)) || fail "tapgate keeps $neighbors neighbours"
  say router "keeps $neighbors neighbours; drops: $(tapgate_ask show drops --json |
    jq -r 'sort_by(-.frames) | map("\(.reason) \(.frames)") | .[:4] | join(", ")')"
  witness_check
}

scan
