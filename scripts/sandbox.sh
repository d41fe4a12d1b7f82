#!/usr/bin/env bash
# Untrusted code runs in bubblewrap: installs Debian's package where it is missing and can be installed, else says how.
set -euo pipefail
if command -v bwrap >/dev/null; then exit 0; fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] &&
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap >/dev/null; then exit 0; fi
echo "The sandbox for untrusted code needs bubblewrap 0.8 or later. Install it: sudo apt-get install bubblewrap"
exit 1
