#!/usr/bin/env bash
# What a recipe's scenario checks of each guest, and the table at its end. Sourced.
# Run: netns-scripts/lab.sh run ovh-ipv6

rows=()           # of the table: fields between bars, the verdict last
faults=()         # of the guest in turn
wrong=0           # guests, or other things checked, with a fault
kernel_faults=()  # with DUT=kernel: patterns of the faults that the kernel must show
declare -gA kernel_shown=()

# check_guest GUEST IPV4 IPV6: all of a guest with both families, and its row of the table. The web
# server must see those addresses. A check that fails does not stop the rest.
check_guest() {
  local guest=$1 seen4 ping4 download4 worn
  witness_reset
  check_ping "$guest" "$remote" && ping4=$ping
  check_ping "$guest" "$remote6"
  check_seen "$guest" "$remote" "$2" && seen4=$seen
  check_seen "$guest" "[$remote6]" "$3"
  check_download "$guest" "$remote" && download4=$download
  check_download "$guest" "[$remote6]"
  ip -n provider neighbour flush dev uplink
  [[ $2 == "$host" ]] || check_from_outside "$2"
  check_from_outside "$3"

  worn=$({ witness_seen ip-pairs && witness_seen ip6-pairs; } |
    awk -v v4="$2" -v v6="$3" '$2 == v4 || $2 == v6 { print $1 }' | sort -u | paste -sd ,)
  [[ $worn == "$nic_mac" ]] || faults+=("its flows wore: ${worn:-nothing}")
  witness_judge
  judge "$guest"
  [[ $worn != *,* ]] || worn="host's, guest's"
  rows+=("$guest|${kind[$guest]}|${seen4:--}|${seen:--}|${worn:--}|${ping4:--}|${ping:--}|$download4|$download|$verdict")
}

# The table of those rows.
print_guests() {
  print_table '%-5s %-5s %-13s %-22s %-18s %-10s %-10s %-12s %-12s' \
    guest kind 'IPv4 seen' 'IPv6 seen' 'MAC seen' ping 'ping IPv6' HTTP 'HTTP IPv6'
}

# check_ping GUEST ADDRESS: sets $ping to the mean time.
check_ping() {
  begin "$1" "pings $2"
  ping=$(guest_run "$1" "ping -q -c 10 -i 0.1 -W 2 $2" || true)
  [[ $ping == *" 0% packet loss"* ]] || faults+=("ping $2 lost packets")
  ping=$(sed -n 's|^round-trip.*= [^/]*/\([^/]*\)/.*|\1 ms|p' <<<"$ping")
  say "$1" "ping $2: ${ping:-no answer}"
}

# check_seen GUEST SERVER ADDRESS: sets $seen to the address that the web server sees.
check_seen() {
  seen=$(guest_run "$1" "timeout 5 busybox wget -q -O - http://$2/cgi-bin/whoami 2>/dev/null" | tr -d '[]' || true)
  [[ $seen == "$3" ]] || faults+=("the server sees ${seen:-nobody}, not $3")
}

# check_download GUEST SERVER: sets $download to the rate and whether SHA-256 was right.
check_download() {
  local before=$EPOCHREALTIME took sum
  begin "$1" "downloads 100 MB from $2"
  if ! guest_run "$1" "timeout 30 busybox wget -q -O $(scratch "$1") http://$2/100MB" >/dev/null; then
    download=none
    faults+=("the download from $2 failed")
    say "$1" "100 MB over HTTP from $2: none"
    return
  fi
  took=$((${EPOCHREALTIME/./} - ${before/./}))
  download="$((104857600 / took)) MB/s" # bytes per microsecond
  begin "$1" "computes SHA-256"
  sum=$(guest_run "$1" "sha256sum <$(scratch "$1"); rm $(scratch "$1")" || true)
  if [[ $sum == "$file_sum" ]]; then download+=" ok"; else download+=" wrong" faults+=("SHA-256 differs"); fi
  say "$1" "100 MB over HTTP from $2: $download"
}

# The file that a guest downloads to: memory, everywhere.
scratch() {
  [[ ${kind[$1]} == VM ]] && echo /tmp/100MB || echo "$state/$1.100MB"
}

# check_from_outside ADDRESS [WHAT]: the remote host reaches the address, and the provider, if it
# must ask, is told the NIC's MAC.
check_from_outside() {
  local worn
  inside remote ping -q -c 3 -i 0.1 -W 2 "$1" >/dev/null || faults+=("${2-}$1 does not answer the remote host's ping")
  worn=$(ip -n provider neighbour show "$1" dev uplink | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
  [[ $(ip -n provider route get "$1") == *" via "* || $worn == "$nic_mac" ]] ||
    faults+=("${2-}the provider is told that $1 is at ${worn:-no MAC}")
}

# answers_at WHO PORT...: who answers there, by TCP, with its name. WHO is a guest or a namespace.
answers_at() {
  local who=$1 number
  shift
  for number; do
    if [[ ${kind[$who]-} == VM ]]; then
      guest_run "$who" "hostname $who; nc -ll -p $number -e /bin/hostname >/dev/null 2>&1 &"
      guest_run "$who" "for i in 1 2 3 4 5 6 7 8 9; do netstat -ltn | grep -q :$number && break; sleep 0.1; done"
    else
      inside "$who" busybox nc -ll -p "$number" -e /bin/busybox echo "$who" >/dev/null 2>&1 &
      listening "$who" "sport = $number"
    fi
  done
}

# reach WHO ADDRESS PORT: prints who answers there by TCP, or `told` if WHO is told that nobody does, or
# else `silent`.
reach() {
  local answer run=(inside "$1" sh -c)
  [[ ! ${kind[$1]-} ]] || run=(guest_run "$1")
  answer=$("${run[@]}" "timeout 2 busybox nc -w 2 $2 $3 </dev/null 2>&1" || true)
  case $answer in
    *refused* | *"No route"* | *unreachable* | *prohibited*) echo told ;;
    '' | *"timed out"* | *timeout*) echo silent ;;
    *) echo "$answer" ;;
  esac
}

# check_reach WHO ADDRESS PORT EXPECTED: a row of the table.
check_reach() {
  local is
  is=$(reach "$1" "$2" "$3")
  [[ $is == "$4" ]] || faults+=("$1 to $2 port $3: $is, not $4")
  judge "$1"
  rows+=("$1|$2|$3|$4|$is|$verdict")
}

# The host's own connections, there since before the router was.
check_host() {
  local name resets
  for name in in out ${host6:+in6 out6}; do
    if session_end "$name"; then
      say router "the host's own TCP connection ($name): $session"
    else
      faults+=("the host's own TCP connection ($name): $(cat "$state/session.$name")")
    fi
  done
  resets=$(witness_seen resets)
  [[ -z $resets ]] || faults+=("the host sent TCP resets: $resets")
  judge host
}

# What the provider saw and has not assigned, as faults.
witness_judge() {
  local fault
  while read -r fault; do faults+=("$fault"); done < <(witness_faults)
}

# judge WHO: says the faults of WHO, forgets them, sets $verdict. A fault that the kernel is known
# for is expected of it.
judge() {
  local fault known
  verdict=ok
  for fault in "${faults[@]}"; do
    if known=$(known_fault "$fault"); then
      kernel_shown[$known]=1
      [[ $verdict == WRONG ]] || verdict='as expected'
      say "$1" "expected of the kernel: $fault"
    else
      verdict=WRONG
      say "$1" "${red}wrong: $fault$plain"
    fi
  done
  [[ $verdict != WRONG ]] || wrong=$((wrong + 1))
  faults=()
}

# known_fault FAULT: prints the pattern that the kernel is known for, if FAULT is such.
known_fault() {
  local pattern
  [[ $dut == kernel ]] || return 1
  for pattern in "${kernel_faults[@]}"; do
    # shellcheck disable=SC2053 # a pattern it is
    [[ $1 != $pattern ]] || { echo "$pattern" && return; }
  done
  return 1
}

# verdict_check: fails if anything was wrong, or if the kernel passed what it is known to fail.
verdict_check() {
  local pattern
  ((wrong == 0)) || fail "$wrong of what was checked did not pass"
  [[ $dut == kernel ]] || return 0
  for pattern in "${kernel_faults[@]}"; do
    [[ ${kernel_shown[$pattern]-} ]] || fail "the kernel was to fail, and did not: $pattern"
  done
}

# print_table LAYOUT HEADINGS...: the rows. LAYOUT is printf's, without the verdict.
print_table() {
  local row fields layout="$1  %s\n"
  shift
  echo
  # shellcheck disable=SC2059 # the layout is ours
  printf "$bold$layout$plain" "$@" verdict
  for row in "${rows[@]}"; do
    IFS='|' read -ra fields <<<"$row"
    [[ ${fields[-1]} == WRONG ]] && fields[-1]=$red${fields[-1]}$plain || fields[-1]=$green${fields[-1]}$plain
    # shellcheck disable=SC2059
    printf "$layout" "${fields[@]}"
  done
  echo
}
