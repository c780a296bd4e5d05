#!/usr/bin/env bash
# Makes the VM guest's kernel and initramfs in .lab/vm: Debian's cloud kernel, busybox, curl, iperf3.
# Nothing is installed: the kernel's package is only unpacked. Kept until an input changes.
# Run: netns-scripts/vm-image.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${LAB_DIR:-$(dirname "$here")/.lab}/vm

# In the order insmod needs them.
modules=(
  drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_modern_dev
  drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci
  net/core/failover drivers/net/net_failover drivers/net/virtio_net
)

inputs=$(cat "${BASH_SOURCE[0]}" "$here"/{vm-init,udhcpc}.sh /usr/bin/{busybox,curl,iperf3} | sha256sum)
if [[ -s $image/vmlinuz && -s $image/initramfs && $(cat "$image/inputs" 2>/dev/null) == "$inputs" ]]; then
  exit 0
fi
mkdir -p "$image"
work=$(mktemp -d "$image/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

if ! compgen -G "$image/linux-image-*.deb" >/dev/null; then
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: //p' | head -n 1)
  [[ $package ]] || {
    echo "vm-image.sh: apt does not know linux-image-cloud-amd64; run apt-get update" >&2
    exit 1
  }
  echo "Downloading $package for the VM (unpacked in $image, not installed)"
  apt-get download -qq "$package" 2>"$work/log" || {
    cat "$work/log" >&2
    echo "vm-image.sh: apt-get could not download $package; run apt-get update" >&2
    exit 1
  }
  mv linux-image-*.deb "$image/"
fi

debs=("$image"/linux-image-*.deb)
dpkg-deb -x "${debs[0]}" kernel
release=$(ls kernel/lib/modules)
echo "Making the VM's initramfs: Linux $release, busybox, curl, iperf3"

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,modules,etc}
cp /usr/bin/{busybox,curl,iperf3} "$root/bin/"
cp "$here/vm-init.sh" "$root/init"
cp "$here/udhcpc.sh" "$root/etc/udhcpc.sh"
chmod 755 "$root/init" "$root/etc/udhcpc.sh"
echo "root::0:0::/:/bin/sh" >"$root/etc/passwd"
for library in $(ldd /usr/bin/{curl,iperf3} | grep -o '/[^ :]*\.so[^ :]*'); do
  mkdir -p "$root/$(dirname "$library")"
  cp -L "$library" "$root/$library"
done
number=10
for module in "${modules[@]}"; do
  cp "kernel/lib/modules/$release/kernel/$module.ko" "$root/modules/$number-${module##*/}.ko"
  number=$((number + 1))
done

(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$image/initramfs"
cp "kernel/boot/vmlinuz-$release" "$image/vmlinuz"
echo "$inputs" >"$image/inputs"
