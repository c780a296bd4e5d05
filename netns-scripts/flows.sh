#!/usr/bin/env bash
# Flows that run while a scenario does something to the router, and what became of them. Sourced.
# Run: netns-scripts/lab.sh run restart-dataplane

declare -gA flow_pids=()
tools=${LAB_TOOLS:-${CARGO_TARGET_DIR:-$(dirname "$here")/target}/debug} # tests/src/bin

# need_tool NAME: fails unless it is built.
need_tool() {
  [[ -x $tools/$1 ]] || fail "there is no $tools/$1; make it with: cargo build -p tapgate-tests"
}

# Starts the remote host's side of all flows: for each guest its own, whose socket buffers a
# quarter of a second of datagrams.
flows_serve() {
  need_tool flow
  declare -gA flow_port=([guest-a]=7001 [guest-b]=7002 [guest-c]=7003)
  local port
  for port in "${flow_port[@]}"; do
    inside remote "$tools/flow" serve "$remote:$port" &
    listening remote "sport = $port"
  done
}

# flow_start GUEST echo|upload|download SECONDS RATE: a flow from a namespace guest, in the
# background: datagrams per second for echo, else Mbit/s.
flow_start() {
  inside "$1" "$tools/flow" "$2" "$remote:${flow_port[$1]}" --seconds "$3" --rate "$4" \
    >"$state/flow.$1.$2" 2>"$state/flow.$1.$2.error" &
  flow_pids[$1.$2]=$!
}

# flow_end GUEST KIND: waits for the flow, sets $received, $lost and $gap_ms.
flow_end() {
  wait "${flow_pids[$1.$2]}" || fail "$1's $2 failed: $(cat "$state/flow.$1.$2.error")"
  local report
  report=$(cat "$state/flow.$1.$2")
  [[ $report =~ ^received=([0-9]+)\ lost=([0-9]+)\ gap_ms=([0-9]+)$ ]] || fail "$1's $2 reported: $report"
  received=${BASH_REMATCH[1]} lost=${BASH_REMATCH[2]} gap_ms=${BASH_REMATCH[3]}
  ((received > 0)) || fail "nothing of $1's $2 arrived"
}

# Makes every retransmission mean a loss, or an answer more than 200 ms late. Call it when all
# devices are there. Two things of the kernel's own, with DUT=kernel too, retransmit without loss:
# - a frame through a veth arrives on the processor that sent it, so that a sender that changes
#   processors overtakes itself: have each device deliver on one (RPS);
# - after a few milliseconds of silence, which a busy machine is enough for, TCP probes.
retransmit_losses_only() {
  local ns
  for ns in provider router remote guest-a guest-b; do
    # shellcheck disable=SC2016 # for the inner shell
    inside "$ns" sh -c 'for cpus in /sys/class/net/*/queues/rx-*/rps_cpus; do echo 1 >$cpus; done'
    inside "$ns" sysctl -qw net.ipv4.tcp_early_retrans=0
  done
}

# retransmits NAMESPACE: TCP segments its kernel has sent again since it was made.
retransmits() {
  # shellcheck disable=SC2016 # awk's own
  inside "$1" awk '/^Tcp:/ { if (column) { print $column; exit }
    for (i = 1; i <= NF; i++) if ($i == "RetransSegs") column = i }' /proc/net/snmp
}

# pings GUEST [SECONDS [ADDRESS]]: whether the guest reaches the address (the remote host's), tried
# for at most so many seconds (1).
pings() {
  local deadline=$((SECONDS + ${2:-1}))
  until guest_run "$1" "ping -q -c 1 -W 1 ${3:-$remote}" >/dev/null; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# session_start NAME NAMESPACE ADDRESS: a TCP connection such as ssh's, a line there and back many
# times a second, from NAMESPACE to port 22 of ADDRESS (see session_serve), until session_end.
session_start() {
  local log=$state/session.$1
  rm -f "$log.end"
  # shellcheck disable=SC2016,SC2094 # for the inner shell to expand; a name, not the file
  ip netns exec "$2" bash -c '
    exec {tcp}<>"/dev/tcp/$1/22" || exit
    lines=0 longest=0
    until [[ -e $2.end ]]; do
      before=$EPOCHREALTIME
      echo "line $lines" >&"$tcp" && read -r -t 5 answer <&"$tcp" && [[ $answer == "line $lines" ]] || {
        echo "broke after $lines lines"
        exit 1
      }
      took=$((${EPOCHREALTIME/./} - ${before/./}))
      ((took <= longest)) || longest=$took
      lines=$((lines + 1))
      sleep 0.02
    done
    echo "$lines lines there and back, the slowest in $((longest / 1000)) ms"
  ' session "$3" "$log" >"$log" 2>&1 &
  flow_pids[$1]=$!
}

# session_end NAME: sets $session to what became of it; fails if it broke.
session_end() {
  touch "$state/session.$1.end"
  wait "${flow_pids[$1]}" || return 1
  session=$(cat "$state/session.$1")
}

# session_serve NAMESPACE: answers each line on port 22, IPv4 and IPv6.
session_serve() {
  inside "$1" busybox nc -ll -p 22 -e /bin/cat &
  listening "$1" "sport = 22"
}

# The host's own TCP connections, to and from the remote host.
host_sessions() {
  session_serve router
  session_serve remote
  session_start in remote "$host"
  session_start out router "$remote"
  [[ -z ${host6-} ]] || session_start in6 remote "$host6"
  [[ -z ${host6-} ]] || session_start out6 router "$remote6"
}
