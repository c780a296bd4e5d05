#!/usr/bin/env bash
# Runs a test program: with sudo, if it is one that makes network namespaces itself. `make test`
# has cargo run every test program by this where it is not root already.
# Run: netns-scripts/as-root.sh PROGRAM [ARGUMENTS]
set -euo pipefail
name=${1##*/}
case $name in
  dataplane-* | ports-* | hostguard-* | shared*-* | routes-*) exec sudo --non-interactive --preserve-env "$@" ;;
  *) exec "$@" ;;
esac
