#!/bin/sh
# assemble.sh RELEASE DIRECTORY: the site, with the release in the page and a hash of its content in each asset's name.
set -eu

release=$1 target=$2
here=$(dirname "$0")

mkdir -p "$target/assets"
sed "s/@RELEASE@/$release/" "$here/index.html" > "$target/index.html"
for asset in app.css app.js; do
  hash=$(sha256sum "$here/$asset" | cut -c 1-12)
  hashed="${asset%.*}.$hash.${asset##*.}"
  cp "$here/$asset" "$target/assets/$hashed"
  sed -i "s|/assets/$asset|/assets/$hashed|" "$target/index.html"
done
