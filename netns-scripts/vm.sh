#!/usr/bin/env bash
# The VM: QEMU without KVM, Debian's cloud kernel, virtio-net on its TAP on the router. Guests of a recipe
# that are VMs are its NICs, in their order: eth0, eth1.
# Sourced. Run: netns-scripts/lab.sh up, then netns-scripts/lab.sh vm 'ip address'

# Boots the VM on its TAPs, which must be there. Does not wait: see vm_wait.
vm_start() {
  local image=$lab_dir/vm guest nics=()
  for guest in "${guests[@]}"; do
    [[ ${kind[$guest]} == VM ]] || continue
    nics+=(-netdev "tap,id=$guest,ifname=${port[$guest]},script=no,downscript=no,vnet_hdr=on"
      -device "virtio-net-pci,netdev=$guest,mac=${own_mac[$guest]}")
  done
  rm -f "$state"/vm.{in,out}
  mkfifo "$state/vm.in" "$state/vm.out"
  # Not `inside`: $! must be QEMU's own process.
  ip netns exec router qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 512 \
    -nodefaults -no-user-config -display none \
    -kernel "$image/vmlinuz" -initrd "$image/initramfs" \
    -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on" \
    -serial "file:$state/vm-console.log" \
    -chardev "pipe,id=commands,path=$state/vm" -serial chardev:commands \
    "${nics[@]}" \
    >"$state/qemu.log" 2>&1 &
  echo $! >"$state/vm.pid"
  vm_attach
}

# Opens the way to the VM's commands.
vm_attach() {
  vm_pid=$(cat "$state/vm.pid")
  # Both ways open, so that neither side ever sees the other's end as closed.
  exec {vm_in}<>"$state/vm.in" {vm_out}<>"$state/vm.out"
}

# Waits until the VM takes commands.
vm_wait() {
  vm_read_until ready 60 >/dev/null || fail "the VM did not boot in 60 s"
}

# vm_run COMMAND: runs a line of shell in the VM, prints its output, returns its status.
vm_run() {
  local id=$EPOCHREALTIME
  printf '%s %s\n' "$id" "${1//$'\n'/ }" >&"$vm_in"
  vm_read_until "$id" 60
}

# Reboots the VM, whose TAP stays, and waits until it takes commands again.
vm_reboot() {
  echo 'reboot reboot -f' >&"$vm_in"
  vm_wait
}

# Ends the VM at once, as a host that fails would.
vm_kill() {
  disown "$vm_pid" # bash need not announce its death
  kill -KILL "$vm_pid"
  while kill -0 "$vm_pid" 2>/dev/null; do sleep 0.02; done
  exec {vm_in}>&- {vm_out}>&-
}

# vm_read_until ID SECONDS: prints the VM's output up to the end of command ID.
vm_read_until() {
  local line='' part deadline=$((SECONDS + $2))
  while ((SECONDS < deadline)); do
    if ! IFS= read -r -t 1 part <&"$vm_out"; then
      line+=$part # a line that is still on its way
      kill -0 "$vm_pid" 2>/dev/null || fail "the VM ended; QEMU said: $(tail -n 5 "$state/qemu.log")"
      continue
    fi
    line+=$part
    case $line in
      "<<< $1 "*) return "${line##* }" ;;
      *) printf '%s\n' "$line" ;;
    esac
    line=''
  done
  fail "the VM did not answer in $2 s; its console said: $(tail -n 5 "$state/vm-console.log")"
}
