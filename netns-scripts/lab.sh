#!/usr/bin/env bash
# The lab: provider, router and three guests in namespaces of their own.
#   netns-scripts/lab.sh up [RECIPE=R] [DUT=kernel] start it and leave it running
#   netns-scripts/lab.sh exec NAMESPACE COMMAND     run a command in provider, remote, router or a guest
#   netns-scripts/lab.sh vm COMMAND                 run a line of shell in the VM
#   netns-scripts/lab.sh witness                    which MAC and address the router's frames wore
#   netns-scripts/lab.sh down                       stop it
#   netns-scripts/lab.sh run SCENARIO [DUT=kernel]  run netns-scripts/scenarios/SCENARIO.sh in a lab of its own
#   netns-scripts/lab.sh list                       the scenarios
# RECIPE is one of netns-scripts/recipes (default multi-mac); a recipe's scenario has its name.
# DUT is what stands in the router's place: tapgate (default) or kernel.
#
# A lab changes nothing on the host. It has its own network, mount and process namespaces, with an
# empty /run: its names meet no others, and all of it goes when its first process ends, however
# that comes about. Files outside: LAB_DIR (default .lab) holds the VM's image and the
# lock; LAB_WAIT is how many seconds to wait for another lab's end (default 0); with LAB_BESIDE=yes it may run beside
# others that have it too. CONFIGURATION is another file than the recipe's; it finds the devices that the kernel's
# lab has.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab_dir=${LAB_DIR:-$(dirname "$here")/.lab}
state=/run/lab # only in the lab's own mount namespace
dut=${DUT:-tapgate}
recipe=${RECIPE:-multi-mac}

main() {
  local command=${1-} argument arguments=()
  shift || true
  for argument; do
    case $command,$argument in
      up,DUT=* | hold,DUT=* | run,DUT=*) dut=${argument#DUT=} ;;
      up,RECIPE=* | hold,RECIPE=*) recipe=${argument#RECIPE=} ;;
      *) arguments+=("$argument") ;;
    esac
  done
  [[ $dut == tapgate || $dut == kernel ]] || usage "DUT is tapgate or kernel, not $dut"
  [[ -f $here/recipes/$recipe.sh ]] || usage "no such recipe: $recipe"
  case $command in
    run)
      [[ -f $here/scenarios/${arguments[0]-}.sh ]] || usage "no such scenario: ${arguments[0]-}"
      need_root
      lab_enter scenario "${arguments[@]}"
      ;;
    up) need_root && load && recipe "$recipe" && lab_up ;;
    hold) lab_enter hold ;;                    # internal: keeps what `up` started
    exec | vm | witness) need_root && lab_attach "$command" "${arguments[@]}" ;;
    down) need_root && lab_down ;;
    list) sed -n 's/^# Scenario: //p' "$here"/scenarios/*.sh ;;
    within) lab_within "${arguments[@]}" ;;    # internal: first process of a lab
    attached) lab_attached "${arguments[@]}" ;; # internal: inside a running lab
    *) usage "no such command: $command" ;;
  esac
}

usage() {
  echo "lab.sh: $1" >&2
  sed -n '3,11s/^# */  /p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

need_root() {
  ((EUID == 0)) || {
    echo "lab.sh: a lab needs root; try: sudo $0 ..." >&2
    exit 1
  }
}

# lab_enter KIND ARGUMENTS...: runs `within KIND ARGUMENTS` as the first process of a new lab.
# The lab dies with this shell, even if this shell is killed.
lab_enter() {
  mkdir -p "$lab_dir"
  local how=--exclusive holder
  [[ -z ${LAB_BESIDE-} ]] || how=--shared
  exec {lock}>>"$lab_dir/lock"
  flock $how --timeout "${LAB_WAIT:-0}" "$lock" || {
    holder=$(cat "$lab_dir/lock")
    echo "lab.sh: another lab is running; wait for it${holder:+, or stop it (process $holder) with: $0 down}" >&2
    exit 1
  }
  [[ $how == --shared ]] || echo $$ >"$lab_dir/lock"
  local status=0
  trap 'lab_stop; exit 130' INT
  trap 'lab_stop; exit 143' TERM HUP
  setpriv --pdeathsig KILL setsid \
    unshare --mount --net --pid --fork --kill-child --mount-proc -- \
    env DUT="$dut" RECIPE="$recipe" "$here/lab.sh" within "$@" </dev/null &
  lab=$!
  wait "$lab" || status=$?
  : >"$lab_dir/lock"
  return "$status"
}

# Kills the lab's first process; the kernel then ends all others of its namespace.
lab_stop() {
  local init
  init=$(pgrep -P "$lab" || true)
  kill -KILL "$lab" 2>/dev/null || true
  wait "$lab" 2>/dev/null || true
  until ended "${init:-$lab}"; do sleep 0.02; done
  : >"$lab_dir/lock"
  [[ ! -t 2 ]] || echo >&2
  echo "Stopped: the lab's processes, namespaces and devices are gone." >&2
}

# Whether a process has ended, collected by its parent or not.
ended() {
  [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == [!Z]* ]] && return 1 || return 0
}

# The first process of a lab.
lab_within() {
  # Before others, or what else the machine does would count as the router's doing.
  renice -n -15 -p $$ >/dev/null
  [[ ! -e /proc/$$/autogroup ]] || echo -15 >/proc/$$/autogroup
  mount -t tmpfs -o mode=755 lab /run
  mkdir -p /run/netns "$state"
  # Open to all, as udev makes it: a machine without udev has it for root only.
  if [[ $(stat -c %a /dev/net/tun) != 666 ]]; then
    mknod -m 666 "$state/tun" c 10 200
    mount --bind "$state/tun" /dev/net/tun
  fi
  echo "$dut" >"$state/dut"
  load
  if [[ $1 == scenario ]]; then
    trap 'on_exit $?' EXIT
    # shellcheck source=/dev/null
    source "$here/scenarios/$2.sh"
    return
  fi
  recipe "$recipe"
  topology_up
  router_start
  vm_start
  services_start
  vm_wait
  local guest
  for guest in "${guests[@]}"; do guest_configure "$guest"; done
  : >"$state/up"
  while :; do sleep 3600 & wait $!; done
}

# Reads the lab's parts.
load() {
  local part
  for part in topology witness vm flows checks report "$dut-router"; do
    # shellcheck source=/dev/null
    source "$here/$part.sh"
  done
}

# recipe NAME: the recipe of this lab. Each scenario says its own.
recipe() {
  recipe=$1
  [[ ! -d $state ]] || echo "$recipe" >"$state/recipe"
  # shellcheck source=/dev/null
  source "$here/recipes/$recipe.sh"
  configuration=${CONFIGURATION:-$(dirname "$here")/examples/$recipe.toml}
}

# Starts a lab that outlives this command and the terminal, and waits until it is ready.
lab_up() {
  "$here/vm-image.sh"
  local log=$lab_dir/up.log starter init
  setsid "$here/lab.sh" hold "DUT=$dut" "RECIPE=$recipe" </dev/null >"$log" 2>&1 &
  starter=$!
  until init=$(lab_init) && [[ -e /proc/$init/root$state/up ]]; do
    kill -0 "$starter" 2>/dev/null || {
      cat "$log" >&2
      exit 1
    }
    sleep 0.1
  done
  echo "The lab is up, RECIPE=$recipe DUT=$dut. Try: $0 vm ping -c 3 $remote"
}

lab_down() {
  local init starter
  init=$(lab_init) || { echo "No lab is running." && return; }
  starter=$(cat "$lab_dir/lock")
  kill -TERM "$starter"
  until ended "$starter" && ended "$init"; do sleep 0.05; done
  echo "The lab is down: its processes, namespaces and devices are gone."
}

# Prints the process id of the running lab's first process; fails if no lab runs.
lab_init() {
  local starter entered
  starter=$(cat "$lab_dir/lock" 2>/dev/null) && [[ $starter ]] &&
    entered=$(pgrep -P "$starter" -x unshare) && pgrep -P "$entered"
}

# lab_attach COMMAND ARGUMENTS...: runs `attached` inside the running lab.
lab_attach() {
  local init
  init=$(lab_init) || { echo "No lab is running; start one with: $0 up" >&2 && exit 1; }
  exec nsenter --target "$init" --mount --net --pid -- "$here/lab.sh" attached "$@"
}

lab_attached() {
  dut=$(cat "$state/dut")
  load
  recipe "$(cat "$state/recipe")"
  case $1 in
    exec) shift && exec ip netns exec "$@" ;;
    vm) shift && vm_attach && vm_run "$*" ;;
    witness)
      echo "MAC and address of each IPv4 source, frames:" && witness_seen ip-pairs
      echo "MAC and address of each IPv6 source, frames:" && witness_seen ip6-pairs
      echo "MAC, ARP sender's MAC and address, frames:" && witness_seen arp-pairs
      echo "MAC and EtherType of anything else, frames:" && witness_seen others
      ;;
  esac
}

main "$@"
