# shellcheck shell=bash # sourced by lab.sh
# Scenario: metadata          a real cloud-init in a guest learns who it is, as on EC2 and by NoCloud's seed; any DUT
# Its instance id, host name, SSH keys and user data arrive; curl sees the same over IPv4 and IPv6. With
# DUT=kernel a web server on the router's 169.254.169.254 has the same files, for this one guest.
# Run: netns-scripts/lab.sh run metadata [DUT=kernel]

recipe multi-mac
# shellcheck disable=SC2034 # read by the topology
guests=(guest-a guest-b)
key_of_all="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEverybodysKeyInThisLab lab"
key_of_b="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGuestBsOwnKeyInThisLab b"

metadata() {
  topology_up
  # shellcheck disable=SC2016 # for the guest's shell
  printf '%s\n' '#cloud-config' 'write_files:' '- path: /root/told' '  content: "by user data"' \
    >"$state/guest-b.yaml"
  metadata_configuration
  router_start
  [[ $dut == tapgate ]] || metadata_by_the_kernel
  guest_configure guest-a
  guest_configure guest-b
  guest_detected guest-b

  local at
  for at in 169.254.169.254 '[fe80::a9fe:a9fe%25eth0]'; do
    expect "$at instance-id" i-guest-b "$(ask guest-b "$at" latest/meta-data/instance-id)"
    expect "$at user-data" "$(cat "$state/guest-b.yaml")" "$(ask guest-b "$at" latest/user-data)"
  done
  say guest-b "curl is told of it over IPv4 and IPv6"
  if [[ $dut == tapgate ]]; then
    expect "guest-a's instance-id" i-guest-a "$(ask guest-a 169.254.169.254 latest/meta-data/instance-id)"
    expect "guest-a's user-data" 404 "$(ask guest-a 169.254.169.254 latest/user-data -o /dev/null -w '%{http_code}')"
    say guest-a "it is told of itself"
  fi

  cloud_init Ec2 "{ Ec2: { metadata_urls: ['http://169.254.169.254'], strict_id: 'false', max_wait: 20, timeout: 5 } }"
  cloud_init NoCloud "{ NoCloud: { seedfrom: 'http://169.254.169.254/nocloud/' } }"
  [[ $dut != tapgate ]] || say router "$(tapgate_ask show counters | grep metadata_ | awk '{ printf "%s %s; ", $1, $2 }')"
}

# ask GUEST AT PATH [OPTION...]: what it is told.
ask() {
  inside "$1" curl -sg --max-time 5 "${@:4}" "http://$2/$3"
}

expect() {
  [[ $3 == "$2" ]] || fail "$1: $3, not $2"
}

# The recipe's file with metadata, and its two guests.
metadata_configuration() {
  sed -E "/^(guest-)?c |^c = /d; s|^([ab] = .*addresses = \[[^]]*\])|\1, metadata = { ssh_keys = [\"$key_of_all\"] }|" \
    "$configuration" >"$state/metadata.toml"
  cat >>"$state/metadata.toml" <<EOF

[guests]
guest-a = { port = "guest-a", addresses = ["${address[guest-a]}"] }
guest-b = { port = "guest-b", addresses = ["${address[guest-b]}"], ssh_keys = ["$key_of_b"], user_data = { file = "guest-b.yaml" } }
EOF
  configuration=$state/metadata.toml
}

# The same for guest-b: files in a web server of the router's.
metadata_by_the_kernel() {
  local web=$state/metadata meta=$state/metadata/latest/meta-data
  mkdir -p "$meta"/public-keys/{0,1} "$web/nocloud"
  ln -s latest "$web/2009-04-04"
  printf 'instance-id\nlocal-hostname\npublic-keys/' >"$meta/index.html"
  printf i-guest-b >"$meta/instance-id"
  printf guest-b >"$meta/local-hostname"
  printf '0=key-0\n1=key-1' >"$meta/public-keys/index.html"
  printf %s "$key_of_b" >"$meta/public-keys/0/openssh-key"
  printf %s "$key_of_all" >"$meta/public-keys/1/openssh-key"
  cp "$state/guest-b.yaml" "$web/latest/user-data"
  printf 'instance-id: i-guest-b\nlocal-hostname: guest-b\npublic-keys:\n- %s\n- %s\n' \
    "$key_of_b" "$key_of_all" >"$web/nocloud/meta-data"
  cp "$state/guest-b.yaml" "$web/nocloud/user-data"
  : >"$web/nocloud/vendor-data"
  inside router sysctl -qw "net.ipv6.conf.${port[guest-b]}.disable_ipv6=0"
  ip -n router address add 169.254.169.254/32 dev "${port[guest-b]}"
  ip -n router address add fe80::a9fe:a9fe/64 dev "${port[guest-b]}"
  inside router busybox httpd -f -p '[::]:80' -h "$web" &
  listening router "sport = 80"
}

# cloud_init SOURCE SETTINGS: a first start of guest-b, with files of its own and nothing from before.
cloud_init() {
  local root=$state/cloud-$1 found
  begin guest-b "cloud-init asks as $1"
  mkdir -p "$root"/{etc,var,root}
  cp -a /etc/. "$root/etc"
  rm -rf "$root"/etc/cloud/cloud.cfg.d/*
  cat >"$root/etc/cloud/cloud.cfg" <<EOF
datasource_list: [$1]
datasource: $2
network: { config: disabled }
users: []
disable_root: false
ssh_deletekeys: false
ssh_genkeytypes: []
cloud_init_modules: [write-files, set_hostname, ssh]
system_info: { distro: debian, paths: { cloud_dir: /var/lib/cloud, templates_dir: /etc/cloud/templates } }
EOF
  # shellcheck disable=SC2016 # for the inner shell
  ip netns exec guest-b unshare --mount --uts --pid --fork --mount-proc sh -c '
    set -eu
    mount --bind "$1/etc" /etc
    mount --bind "$1/root" /root
    mkdir -p /var/lib/cloud
    mount -t tmpfs cloud /var/lib/cloud
    rm -rf /run/cloud-init
    echo nobody >/proc/sys/kernel/hostname
    cloud-init --file /etc/cloud/cloud.cfg init
    cat /var/lib/cloud/data/instance-id >"$1/var/instance-id"
    cat /var/lib/cloud/instance/user-data.txt >"$1/var/user-data"
    cat /var/lib/cloud/instance/datasource >"$1/var/datasource"
    uname -n >"$1/var/hostname"
  ' sh "$root" >"$state/cloud-init-$1.log" 2>&1 ||
    fail "cloud-init failed as $1: $(tail -n 30 "$state/cloud-init-$1.log")"
  found=$(cut -d : -f 1 "$root/var/datasource")
  [[ $found == DataSource$1* ]] || fail "cloud-init found $found, not $1: $(tail -n 30 "$state/cloud-init-$1.log")"
  expect "$1: instance id" i-guest-b "$(cat "$root/var/instance-id")"
  expect "$1: host name" guest-b "$(cat "$root/var/hostname")"
  expect "$1: user data" "$(cat "$state/guest-b.yaml")" "$(cat "$root/var/user-data")"
  expect "$1: what user data asks for" "by user data" "$(cat "$root/root/told")"
  for found in "$key_of_b" "$key_of_all"; do
    grep -qF "$found" "$root/root/.ssh/authorized_keys" || fail "$1: the key \"$found\" is not let in"
  done
  say guest-b "cloud-init has all of it from $1"
}

metadata
