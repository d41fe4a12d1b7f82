#!/usr/bin/env bash
# The tests hold every page against axe-core's rules of accessibility: fetches it from npm, once, and checks it against the hash that is pinned here.
set -euo pipefail
version=4.14.1
integrity=FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
target=${XDG_CACHE_HOME:-$HOME/.cache}/astray-tests/axe-core-$version.min.js
if [ -s "$target" ]; then exit 0; fi
if ! command -v npm >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq npm >/dev/null
  else
    echo "The tests of accessibility need axe-core, which npm fetches. Install it: sudo apt-get install npm"
    exit 1
  fi
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && npm pack --silent "axe-core@$version" >/dev/null)
found=$(openssl dgst -sha512 -binary "$folder/axe-core-$version.tgz" | base64 -w0)
if [ "$found" != "$integrity" ]; then
  echo "npm gave another axe-core $version than the one that is pinned in scripts/axe.sh: sha512-$found"
  exit 1
fi
tar -xzf "$folder/axe-core-$version.tgz" -C "$folder" package/axe.min.js
mkdir -p "$(dirname "$target")"
# Renamed at the end, so that a fetch that is cut off leaves nothing that looks whole.
mv "$folder/package/axe.min.js" "$target.$$" && mv "$target.$$" "$target"
