#!/usr/bin/env bash
# The report's tests click in headless Chromium: installs Debian's package where it is missing and can be installed, else says how.
set -euo pipefail
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null
else
  echo "The report's tests need Chromium and its driver. Install them: sudo apt-get install chromium chromium-driver"
  exit 1
fi
