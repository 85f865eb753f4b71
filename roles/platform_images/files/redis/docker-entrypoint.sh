#!/bin/sh
# Options or a .conf file alone mean redis-server; as root the server runs as redis, which then owns the data.
set -eu

case ${1:-} in
    '' | -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis:redis '{}' +
        exec setpriv --reuid redis --regid redis --init-groups "$0" "$@"
    fi
    umask 077
fi
exec "$@"
