# shellcheck shell=bash # sourced
# What the benches side by side with the kernel have in common: programs, namespaces, and how busy the
# machine is with other work. A bench sets $self to itself and $arguments to how it was called, and calls
# `prepare` before all else.
# Run: make bench, make bench-answers, make bench-nat
# shellcheck disable=SC2034,SC2153,SC2154 # set here for the bench, and by it

# prepare PACKAGES TOOL...: builds, goes on as root, and looks for tools that Debian's PACKAGES have. Sets
# $bin, where the generators and sinks are, $tapgate (a copy: control gives up root's right to read a home
# that only its user can read), and $work, which `remove` removes.
prepare() {
  local packages=$1 tool root build=(-p tapgate-benches)
  root=$(dirname "$(dirname "$self")")
  bin=${CARGO_TARGET_DIR:-$root/target}/release
  [ -n "${TAPGATE:-}" ] || build+=(-p tapgate -p tapgate-dataplane)
  [ -n "${BENCH_BUILT:-}" ] ||
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" "${build[@]}" --bins
  if [ "$(id -u)" != 0 ]; then
    echo "bench: network namespaces need root: going on under sudo"
    exec sudo BENCH_BUILT=1 CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-}" TAPGATE="${TAPGATE:-}" \
      "$self" ${arguments[@]+"${arguments[@]}"}
  fi
  for tool in "${@:2}"; do
    command -v "$tool" >/dev/null || {
      echo "bench: $tool is missing: apt-get install $packages" >&2
      exit 69
    }
  done
  work=$(mktemp -d) router='' namespaces=()
  results=$work/results
  tapgate=${TAPGATE:-$bin/tapgate}
  cp "$tapgate" "$tapgate-dataplane" "$work/"
  tapgate=$work/tapgate
}

# namespace NAME: makes one, which `remove` removes.
namespace() {
  namespaces+=("$1")
  ip netns add "$1"
  ip netns exec "$1" sh -c 'echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter'
  ip -n "$1" link set lo up
}

# namespace4 NAME: the same, without IPv6.
namespace4() {
  namespace "$1"
  ip netns exec "$1" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
}

namespaces_down() {
  local namespace
  for namespace in ${namespaces[@]+"${namespaces[@]}"}; do
    ip netns delete "$namespace" 2>/dev/null || true
  done
  namespaces=()
}

# All that a bench made, whatever became of it.
remove() {
  tapgate_down
  namespaces_down
  rm -rf "$work"
  echo "bench: namespaces removed" >&2
}

# tapgate_run FILE: starts tapgate in the router's namespace.
tapgate_run() {
  ip netns exec "$ROUTER" "$tapgate" run "$1" --runtime-dir "$work/run" --user root >"$work/tapgate.log" 2>&1 &
  router=$!
}

tapgate_down() {
  [ -z "$router" ] || { kill "$router"; wait "$router"; } 2>/dev/null || true
  router=''
}

# reachable WHO: waits until the guest's pings come back through WHO, at most 10 s.
reachable() {
  for _ in {1..100}; do
    ip netns exec "$GUESTNS" ping -q -c 1 -W 0.1 "$REMOTE" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "bench: the guest cannot reach $REMOTE through $1" >&2
  [ ! -s "$work/tapgate.log" ] || tail -n 20 "$work/tapgate.log" >&2
  exit 1
}

# sink SECONDS: what arrives at the far end, and what the machine does meanwhile, as JSON.
sink() {
  ip netns exec "$FAR" "$bin/pktsink" --dev "$FAR_DEVICE" --seconds "$1"
}

# What the machine does although nothing is asked of it; waits, not for long, for less.
disturbance() {
  local busy
  for _ in {1..8}; do
    busy=$(sink 0.5 | jq .busy_cpus)
    awk -v busy="$busy" 'BEGIN { exit busy > 0.1 }' && break
  done
  echo "$busy" >>"$work/disturbance"
}

warn_if_disturbed() {
  awk '$1 > worst { worst = $1 }
    END { if (worst > 0.1) printf "\nThe machine was busy with other work (%.1f CPUs between two measurements): figures are not reliable.\n", worst }' \
    "$work/disturbance"
}

# machine ROUNDS STARTED: what it was measured on, and how long it took since second STARTED.
machine() {
  printf '\n%s, %s CPUs, Linux %s, %d rounds, %d s\n\n' \
    "$(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo)" "$(nproc)" "$(uname -r)" "$1" \
    $((SECONDS - $2))
}
