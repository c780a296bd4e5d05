#!/bin/busybox sh
# shellcheck shell=dash
# The VM guest's init: loads virtio-net, then runs commands that come in by the second serial
# port, one a line: "ID COMMAND". Its output is followed by a line "<<< ID STATUS".
# Run: by the VM's kernel (see vm-image.sh and vm.sh).
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*.ko; do
  insmod "$module"
done
ip link set lo up
# No wait of up to a second before duplicate address detection.
for delay in /proc/sys/net/ipv6/conf/*/router_solicitation_delay; do echo 0 >"$delay"; done
# Not in the first process, whom orphans are left to: the end of one, such as `timeout` leaves for up
# to a second, interrupts `read`, and busybox then forgets what it has read of the line.
commands() {
  stty raw -echo
  echo "<<< ready 0"
  while read -r id command; do
    sh -c "$command" </dev/null
    echo "<<< $id $?"
  done
  poweroff -f
}
commands </dev/ttyS1 >/dev/ttyS1 2>&1 &
while :; do wait; done
