#!/usr/bin/env bash
# The demo: builds tapgate and runs examples/RECIPE.toml (default multi-mac) between a provider and
# three guests, on a Debian machine with Rust. Builds as the user who asks; only packages and the
# lab need root.
# Run: netns-scripts/demo.sh [RECIPE=ovh-ipv6] [DUT=kernel]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

recipe=multi-mac dut=tapgate
for argument; do
  case $argument in
    RECIPE=*) recipe=${argument#RECIPE=} ;;
    DUT=*) dut=${argument#DUT=} ;;
  esac
done
[[ -f netns-scripts/recipes/$recipe.sh ]] || {
  echo "demo.sh: no recipe $recipe; there are: $(basename -s .sh netns-scripts/recipes/*.sh | paste -sd ' ')" >&2
  exit 2
}

root=()
((EUID == 0)) || root=(sudo)

netns-scripts/packages.sh
netns-scripts/vm-image.sh
if [[ $dut != kernel ]]; then
  cargo build --release -p tapgate -p tapgate-dataplane
fi
echo "The lab runs in namespaces of its own: nothing on this host changes, and nothing stays."
"${root[@]}" env ${TAPGATE:+TAPGATE="$TAPGATE"} ${CARGO_TARGET_DIR:+CARGO_TARGET_DIR="$CARGO_TARGET_DIR"} \
  netns-scripts/lab.sh run "$recipe" "DUT=$dut"
