# shellcheck shell=bash # sourced by lab.sh
# Scenario: clients           udhcpc, dhclient, dhcpcd, systemd-networkd: each gets its address and default routes
# The guest is handed a public /32 by DHCP, whose gateway is beyond it, a /128 by DHCPv6, and its
# IPv6 gateway by router advertisement (taken by the kernel where the client does not).
# Run: netns-scripts/lab.sh run clients

recipe hetzner-routed

clients() {
  topology_up
  sed -E "s/^(c = .*ra = \{[^}]*\})/\1, dhcp6 = {}/; s/^(c = .*public = \[)(.*)/\1\"${public6[c]}\", \2/; \
    s/^(c = \{ port = \"c\", addresses)/\1/; s/^(c = \{ port = \"c\",)/\1 dhcp = \"${public[c]}\", hostname = \"guest-c\",/" \
    "$configuration" >"$state/clients.toml"
  configuration=$state/clients.toml
  router_start
  # What clients write beside addresses and routes is for this lab alone.
  mkdir -p "$state/etc" && cp -a /etc/. "$state/etc" && mount --bind "$state/etc" /etc
  mount -t tmpfs clients /var/lib
  mkdir -p /var/lib/dhcp /var/lib/dhcpcd
  inside c sysctl -qw net.ipv6.conf.eth0.router_solicitation_interval=1

  client udhcpc busybox udhcpc -f -i eth0 -t 5 -T 1 -O staticroutes -s "$here/udhcpc.sh"
  client dhclient sh -c 'dhclient -d eth0 & dhclient -6 -d eth0 & wait'
  client dhcpcd dhcpcd --nobackground eth0
  mkdir -p /run/systemd/network
  printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n' >/run/systemd/network/eth0.network
  client networkd sh -c 'mount -o remount,bind,ro /sys; exec /lib/systemd/systemd-networkd'
  witness_check
}

# client NAME COMMAND...: runs a client in guest c until it has what it needs.
client() {
  local name=$1 asked=$EPOCHREALTIME deadline=$((SECONDS + 20)) missing pid
  shift
  begin "$name" "asks"
  inside c ip link set eth0 down
  inside c ip address flush dev eth0
  [[ -z $(ip -n c route) ]] || fail "routes of the client before $name are still there: $(ip -n c route)"
  inside c sysctl -qw net.ipv6.conf.eth0.accept_ra=1
  inside c ip link set eth0 up
  guest_detected c # dhclient -6 ends if the link-local address is not there yet
  # A hostname of its own; and with its first process end all that it starts.
  ip netns exec c unshare --uts --pid --fork --mount-proc "$@" >"$state/$name.log" 2>&1 &
  pid=$!
  until missing=$(client_lacks "$name") && [[ -z $missing ]]; do
    kill -0 $pid 2>/dev/null || fail "$name ended: $(tail -n 20 "$state/$name.log")"
    ((SECONDS < deadline)) || fail "$name has no $missing after 20 s: $(tail -n 20 "$state/$name.log"; ip -n c address; ip -n c route; ip -n c -6 route)"
    sleep 0.1
  done
  say "$name" "after $(seconds_since "$asked") s: $(ip -n c -o route show default | sed 's/ *$//'); $(ip -n c -6 -o route show default | head -n 1 | cut -d ' ' -f 1-5)"
  kill -KILL "$(pgrep -P $pid)"
  wait $pid 2>/dev/null || true
}

# client_lacks NAME: prints what guest c does not have yet.
client_lacks() {
  ip -n c -4 address show dev eth0 | grep -q "inet ${public[c]}/32 " || { echo "IPv4 address" && return; }
  ip -n c route show default | grep -q "via ${gateway[c]} dev eth0" || { echo "IPv4 default route" && return; }
  ip -n c -6 route show default | grep -q "via fe80::1 dev eth0" || { echo "IPv6 default route" && return; }
  if [[ $1 != udhcpc ]]; then # it is DHCPv4 only
    ip -n c -6 address show dev eth0 -tentative | grep -q "inet6 ${public6[c]}/128 " || { echo "IPv6 address" && return; }
    inside c ping -q -c 1 -W 1 "$remote6" >/dev/null || { echo "answer from $remote6" && return; }
  fi
  inside c ping -q -c 1 -W 1 "$remote" >/dev/null || echo "answer from $remote"
}

clients
