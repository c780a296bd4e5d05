#!/bin/busybox sh
# shellcheck shell=dash disable=SC2154 # udhcpc sets the variables
# What busybox's udhcpc does with an answer: the address, and the default route by options 121 or 3,
# whose gateway may be beyond the prefix.
# Run: by busybox udhcpc -s netns-scripts/udhcpc.sh, in guests
case $1 in
  bound | renew)
    busybox ip address add "$ip/$mask" dev "$interface" 2>/dev/null
    gateway=${router%% *}
    case $staticroutes in
      *0.0.0.0/0*) gateway=${staticroutes##*0.0.0.0/0 } gateway=${gateway%% *} ;;
    esac
    busybox ip route replace "$gateway" dev "$interface" src "$ip"
    busybox ip route replace default via "$gateway" dev "$interface"
    ;;
esac
