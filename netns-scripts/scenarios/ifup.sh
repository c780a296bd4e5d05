# shellcheck shell=bash # sourced by lab.sh, which sets what is used here
# Scenario: ifup              what `import interfaces` reads of a file, and `import kernel` of what ifup does with it; DUT=kernel
# Debian's own ifup sets up a namespace by control/tests/import/interfaces; both imports must say the same.
# Run: netns-scripts/lab.sh run ifup DUT=kernel

recipe multi-mac

compare_with_ifup() {
  [[ $dut == kernel ]] || fail "DUT=kernel is what is compared"
  local inputs=$here/../control/tests/import files=$state/files device commands entries
  [[ -x $lab_dir/ifupdown/sbin/ifup ]] || fail "there is no ifup; get it with: netns-scripts/ifupdown.sh"
  PATH+=:$lab_dir/ifupdown/sbin
  ip netns add router
  ip -n router link set lo up
  inside router sysctl -qw net.ipv6.conf.{all,default}.accept_dad=0 net.ipv6.conf.default.router_solicitations=0
  # What a driver and the scripts of bridge-utils would make.
  for device in eth0 g0 g1 g2; do
    ip -n router link add "$device" type veth peer name "peer-$device"
    ip -n router link set "peer-$device" up
    ip -n router link set "$device" up
  done
  ip -n router link add br0 type bridge
  ip -n router link set g0 master br0
  ip -n router link set g1 master br0
  mkdir -p "$files/interfaces.d" "$state/ifstate"
  cp "$inputs/interfaces" "$files/"
  # No tc: it is in the file to be listed.
  sed '/up tc /d' "$inputs/interfaces.d/lan" >"$files/interfaces.d/lan"
  (cd "$files" && inside router ifup -a -i interfaces --state-dir "$state/ifstate") >"$state/ifup" 2>&1 ||
    fail "ifup: $(cat "$state/ifup")"
  tapgate_copy
  commands=$("$tapgate" import kernel --help | sed -n '/^mkdir/,$p')
  (cd "$files" && inside router bash -c "$commands") || fail "a command of --help failed"
  (cd "$files" && "$tapgate" import kernel saved) >"$state/of-kernel" 2>"$state/told" || true
  (cd "$files" && "$tapgate" import interfaces interfaces) >"$state/of-file" 2>"$state/told" || true
  for entries in of-kernel of-file; do
    grep -v '^ *#' "$state/$entries" | sort >"$state/$entries.sorted"
  done
  (($(wc -l <"$state/of-file.sorted") > 30)) || fail "import interfaces wrote next to nothing: $(cat "$state/told")"
  diff "$state/of-file.sorted" "$state/of-kernel.sorted" || fail "the two imports differ (< file, > kernel)"
  say router "import interfaces and import kernel agree in $(wc -l <"$state/of-file.sorted") lines"
}

# shellcheck source=tapgate-router.sh
source "$here/tapgate-router.sh"
# shellcheck source=kernel-router.sh
source "$here/kernel-router.sh"
compare_with_ifup
