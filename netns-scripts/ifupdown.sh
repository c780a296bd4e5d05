#!/usr/bin/env bash
# Downloads Debian's ifupdown and unpacks it into LAB_DIR (default .lab), if it is not there. It is not
# installed: its package would set up the host.
# Run: netns-scripts/ifupdown.sh
set -euo pipefail
directory=${LAB_DIR:-$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")/.lab}/ifupdown
[[ ! -x $directory/sbin/ifup ]] || exit 0
mkdir -p "$directory"
(cd "$directory" && apt-get -qq -o APT::Sandbox::User=root download ifupdown && dpkg -x ifupdown_*.deb .) || {
  echo "ifupdown.sh: apt-get cannot download ifupdown: see above" >&2
  exit 1
}
