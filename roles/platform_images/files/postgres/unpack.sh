#!/bin/sh
# Unpacks PostgreSQL from Debian's (signed) packages without their dependencies: Perl and LLVM would triple the image.
# The packages stay known in status.d, where vulnerability scanners look.
# Usage, in an empty directory: unpack.sh MAJOR TARGET
set -eu
major=$1 target=$2
version="postgresql-$major postgresql-client-$major"

apt-get update
# shellcheck disable=SC2086  # two words
apt-get -o APT::Sandbox::User=root download $version
mkdir -p "$target/var/lib/dpkg/status.d"
for package in $version; do
    archive=$(echo "${package}"_*.deb)
    dpkg-deb --extract "$archive" "$target"
    dpkg-deb --field "$archive" | sed '/^Package:/a Status: install ok installed' >"$target/var/lib/dpkg/status.d/$package"
done

cd "$target"
find usr/share/doc -mindepth 2 ! -name copyright -delete
rm -rf etc lib usr/share/lintian usr/share/locale usr/share/man usr/share/postgresql-common "usr/share/postgresql/$major/man" \
    "usr/lib/postgresql/$major/lib/bitcode" "usr/lib/postgresql/$major/lib/pgxs" "usr/lib/postgresql/$major/lib"/llvmjit*
sed -i "s/^#listen_addresses = 'localhost'/listen_addresses = '*'/" "usr/share/postgresql/$major/postgresql.conf.sample"
grep -q "^listen_addresses = '\*'" "usr/share/postgresql/$major/postgresql.conf.sample"
