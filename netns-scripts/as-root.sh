#!/usr/bin/env bash
# Runs a test program: with sudo, if it is one that makes network namespaces itself. `make test`
# has cargo run every test program by this where it is not root already.
# Run: netns-scripts/as-root.sh PROGRAM [ARGUMENTS]
set -euo pipefail
# Cargo says which package the program is of.
case ${CARGO_MANIFEST_DIR##*/}/${1##*/} in
  dataplane/* | tests/routes-*) exec sudo --non-interactive --preserve-env "$@" ;;
  *) exec "$@" ;;
esac
