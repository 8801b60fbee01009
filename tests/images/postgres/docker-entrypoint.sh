#!/bin/bash
# What the official image of PostgreSQL does with the settings that deploy/ gives it.
set -eu
[ "${1:0:1}" = - ] && set -- postgres "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    chown -R postgres "$PGDATA" /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:-/dev/null}")}
    [ -n "$password" ] || { echo "POSTGRES_PASSWORD is empty" >&2; exit 1; }
    initdb --username="${POSTGRES_USER:-postgres}" --pwfile=<(echo "$password")
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    # Of this container only, until the database is made.
    pg_ctl --wait --options="-c listen_addresses=''" start
    [ "${POSTGRES_DB:-postgres}" = postgres ] ||
        createdb --username="${POSTGRES_USER:-postgres}" --maintenance-db=postgres "$POSTGRES_DB"
    pg_ctl --wait --mode=fast stop
fi
exec "$@"
