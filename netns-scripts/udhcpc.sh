#!/bin/busybox sh
# shellcheck shell=dash disable=SC2154 # udhcpc sets the variables
# What busybox's udhcpc does with an answer: the address, and the routes of option 121, or else the default
# one of option 3. A gateway may be beyond the prefix.
# Run: by busybox udhcpc -s netns-scripts/udhcpc.sh, in guests
case $1 in
  bound | renew)
    busybox ip address add "$ip/$mask" dev "$interface" 2>/dev/null
    # shellcheck disable=SC2086 # words: destination and gateway in turn
    set -- ${staticroutes:-${router:+0.0.0.0/0 ${router%% *}}}
    while [ $# -ge 2 ]; do
      if [ "$2" = 0.0.0.0 ]; then
        busybox ip route replace "$1" dev "$interface" src "$ip"
      else
        busybox ip route replace "$2" dev "$interface" src "$ip"
        busybox ip route replace "$1" via "$2" dev "$interface"
      fi
      shift 2
    done
    ;;
esac
