#!/usr/bin/env bash
# Makes the database cluster on the first start, then becomes the server.
#
# The cluster is made in $PGDATA/.initialising, renamed to .initialised once every script has run, then moved up, PG_VERSION
# last. So a start that was killed leaves nothing that passes for a cluster, and the next start takes it from there. Nothing
# but .initialising is ever deleted.
# shellcheck disable=SC2030,SC2031  # what a subshell changes is meant to end with it
set -euo pipefail
shopt -s nullglob dotglob

say() { printf 'entrypoint: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# setting NAME DEFAULT: the value of NAME, or what is in the file NAME_FILE names.
setting() {
    local name=$1 file=${1}_FILE
    [[ -z ${!name:-} || -z ${!file:-} ]] || fail "$name and $file are both set: set one"
    if [[ -n ${!file:-} ]]; then cat -- "${!file}"; else printf '%s' "${!name:-$2}"; fi
}

wants_server() {
    [[ ${1:-} == postgres ]] || return 1
    local argument
    for argument; do
        case $argument in -\? | --help | --describe-config | -V | --version) return 1 ;; esac
    done
}

become_postgres() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres '{}' +
    exec setpriv --reuid postgres --regid postgres --init-groups "${BASH_SOURCE[0]}" "$@"
}

# Held until the server ends: its own lock file is no help between two containers, where both are process 1.
lock_data_directory() {
    mkdir -p "$PGDATA"
    [[ -O $PGDATA ]] || fail "$PGDATA belongs to uid $(stat -c %u "$PGDATA"), this is uid $EUID:" \
        "give it to this uid, or set PGDATA to a directory below it"
    chmod 700 "$PGDATA"
    exec {lock}<"$PGDATA"
    flock --nonblock "$lock" || fail "another container uses $PGDATA"
}

refuse_foreign_files() {
    local entry
    for entry in "$PGDATA"/*; do
        case ${entry##*/} in
            .initialising | lost+found) ;;
            *) fail "$PGDATA is no database cluster and not empty (${entry##*/}): left as it is" ;;
        esac
    done
}

# initdb and some scripts ask for the name of the user.
name_unknown_uid() {
    if getent passwd "$EUID" >/dev/null; then return; fi
    printf 'postgres:x:%s:%s::/var/lib/postgresql:/bin/false\n' "$EUID" "$(id -g)" >"$1/passwd"
    printf 'postgres:x:%s:\n' "$(id -g)" >"$1/group"
    export LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=$1/passwd NSS_WRAPPER_GROUP=$1/group
}

run_initdb() {
    local password method words arguments=()
    password=$(setting POSTGRES_PASSWORD '')
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    words=$(setting POSTGRES_INITDB_ARGS '' | xargs -r -n 1 printf '%s\n')
    if [[ -n $words ]]; then mapfile -t arguments <<<"$words"; fi
    if [[ -n $password ]]; then
        # A pipe: the password is in no argument, file or environment.
        initdb --no-instructions --pgdata="$1" --username="$2" --pwfile=<(printf '%s\n' "$password") "${arguments[@]}"
    elif [[ $method == trust ]]; then
        initdb --no-instructions --pgdata="$1" --username="$2" "${arguments[@]}"
    else
        fail "no superuser password: set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD"
    fi
    printf '\nhost all all all %s\n' "$method" >>"$1/pg_hba.conf"
}

run_scripts() {
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh) say "running $script"; if [[ -x $script ]]; then "$script"; else bash -euo pipefail "$script"; fi ;;
            *.sql) say "running $script"; psql --no-psqlrc --no-password -v ON_ERROR_STOP=1 -f "$script" ;;
            *) say "ignoring $script: neither .sh nor .sql" ;;
        esac
    done </dev/null
}

# A subshell: what it exports ends with it. Its server answers on a socket in a private directory only, so nobody connects
# and no health check passes before the cluster is complete.
initialise() (
    cluster=$1; shift
    umask 077
    work=$(mktemp -d)
    server=
    trap 'if [[ -n $server ]]; then kill -QUIT "$server" 2>/dev/null || :; wait "$server" || :; fi; rm -rf "$work"' EXIT
    POSTGRES_USER=$(setting POSTGRES_USER postgres)
    unset POSTGRES_USER_FILE
    POSTGRES_DB=$(setting POSTGRES_DB "$POSTGRES_USER")
    unset POSTGRES_DB_FILE
    name_unknown_uid "$work"
    run_initdb "$cluster" "$POSTGRES_USER"

    printf 'local all all trust\n' >"$work/hba"
    "$@" -D "$cluster" -c data_directory="$cluster" -c hba_file="$work/hba" -c unix_socket_directories="$work" \
        -c listen_addresses= -c port=5432 -c archive_mode=off &
    server=$!
    export POSTGRES_USER POSTGRES_DB PGDATA=$cluster PGHOST=$work PGPORT=5432 PGUSER=$POSTGRES_USER PGDATABASE=$POSTGRES_DB
    until pg_isready --quiet --dbname=postgres; do
        kill -0 "$server" 2>/dev/null || fail "the server did not start"
        sleep 0.1
    done
    if [[ $POSTGRES_DB != postgres ]]; then createdb --maintenance-db=postgres -- "$POSTGRES_DB"; fi
    run_scripts
    kill -INT "$server"
    wait "$server"
    server=
)

move_up() {
    local entry
    for entry in "$1"/*; do
        if [[ ${entry##*/} != PG_VERSION ]]; then mv -- "$entry" "$PGDATA/"; fi
    done
    sync -f "$PGDATA"
    mv -- "$1/PG_VERSION" "$PGDATA/"
    sync -f "$PGDATA"
}

make_cluster() {
    local unfinished=$PGDATA/.initialising finished=$PGDATA/.initialised
    if [[ ! -d $finished ]]; then
        refuse_foreign_files
        rm -rf "$unfinished"
        initialise "$unfinished" "$@"
        sync -f "$unfinished"
        mv -T -- "$unfinished" "$finished"
    fi
    move_up "$finished"
    say "the cluster in $PGDATA is complete"
}

if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
if wants_server "$@"; then
    if ((EUID == 0)); then become_postgres "$@"; fi
    export -n POSTGRES_PASSWORD
    mkdir -p /var/run/postgresql
    lock_data_directory
    if [[ ! -s $PGDATA/PG_VERSION ]]; then make_cluster "$@"; fi
    rmdir "$PGDATA/.initialised" 2>/dev/null || :
fi
exec "$@"
