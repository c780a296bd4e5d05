#!/usr/bin/env bash
# Installs the Debian packages of the programs that the labs and the tests call (netns-scripts/programs),
# if any is missing; with TARGET, also of those that only `make TARGET` calls. Changes the host: the
# packages stay; what was installed is said, and how to remove it.
# Run: netns-scripts/packages.sh [TARGET]
set -euo pipefail
list=$(dirname "${BASH_SOURCE[0]}")/programs

packages=$(awk -F: -v target="(${1-})" '!/^#/ && NF > 1 { split($1, words, " ")
  if (words[1] != "-" && (words[2] == "" || words[2] == target)) print words[1] }' "$list" | sort -u)
missing=()
for package in $packages; do
  # shellcheck disable=SC2016 # ${...} is dpkg-query's own syntax
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
    missing+=("$package")
done
((${#missing[@]})) || exit 0

root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    echo "packages.sh: not root and no sudo: install ${missing[*]} as root, then try again" >&2
    exit 1
  }
  root=(sudo)
fi

# Its package would start a server, and at every boot. A mask that is there already stays.
coturn=/etc/systemd/system/coturn.service
if [[ " ${missing[*]} " == *" coturn "* && ! -e $coturn && ! -L $coturn ]]; then
  "${root[@]}" mkdir -p "${coturn%/*}"
  "${root[@]}" ln -s /dev/null "$coturn"
  echo "coturn.service is masked; to undo: ${root[*]} rm $coturn"
fi

# Its package would set this host up at the next boot. A switch that is there already stays.
cloud_init=/etc/cloud/cloud-init.disabled
if [[ " ${missing[*]} " == *" cloud-init "* && ! -e $cloud_init ]]; then
  "${root[@]}" mkdir -p "${cloud_init%/*}"
  "${root[@]}" touch "$cloud_init"
  echo "cloud-init is disabled; to undo: ${root[*]} rm $cloud_init"
fi

echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${root[@]}" apt-get update &&
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "packages.sh: apt-get failed (above); the lab needs: ${missing[*]}" >&2
  exit 1
fi
echo "Installed, and they stay. To remove them: ${root[*]} apt-get remove ${missing[*]}"
