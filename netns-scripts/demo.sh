#!/usr/bin/env bash
# The demo: builds tapgate and runs examples/multi-mac.toml between a provider and three guests, on
# a Debian machine with Rust. Builds as the user who asks; only packages and the lab need root.
# Run: netns-scripts/demo.sh [DUT=kernel]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

root=()
((EUID == 0)) || root=(sudo)

netns-scripts/packages.sh
netns-scripts/vm-image.sh
if [[ " $* " != *" DUT=kernel "* ]]; then
  cargo build --release -p tapgate -p tapgate-dataplane
fi
echo "The lab runs in namespaces of its own: nothing on this host changes, and nothing stays."
"${root[@]}" env ${TAPGATE:+TAPGATE="$TAPGATE"} ${CARGO_TARGET_DIR:+CARGO_TARGET_DIR="$CARGO_TARGET_DIR"} \
  netns-scripts/lab.sh run recipe "$@"
