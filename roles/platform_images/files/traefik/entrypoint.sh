#!/bin/sh
# The word `traefik` may be left out before options and Traefik's own commands.
set -eu

case ${1:-} in
    '' | -* | healthcheck | help | version) set -- traefik "$@" ;;
esac
exec "$@"
