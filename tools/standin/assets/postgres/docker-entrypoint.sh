#!/usr/bin/env bash
# Starts PostgreSQL in a container: makes the cluster on first use as the variables
# POSTGRES_* ask, runs /docker-entrypoint-initdb.d, leaves root, becomes the server.
set -Eeuo pipefail

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
note() { printf '%s: %s\n' "${BASH_SOURCE[0]##*/}" "$*"; }

# NAME from the environment, or from the file that NAME_FILE names, or a default
from_env_or_file() {
	local name=$1 file="${1}_FILE"
	if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
		fail "both $name and $file are set (but are exclusive)"
	fi
	local value="${2:-}"
	if [ -n "${!name:-}" ]; then
		value="${!name}"
	elif [ -n "${!file:-}" ]; then
		value="$(< "${!file}")"
	fi
	export "$name"="$value"
	unset "$file"
}

# --help and the like print and start nothing
only_prints() {
	local argument
	for argument; do
		case "$argument" in
			-'?'|--help|--describe-config|-V|--version|-C) return 0 ;;
		esac
	done
	return 1
}

make_folders() {
	local user; user="$(id -u)"
	mkdir -p "$PGDATA"
	chmod 00700 "$PGDATA" 2>/dev/null || :
	mkdir -p /var/run/postgresql 2>/dev/null || :
	chmod 03775 /var/run/postgresql 2>/dev/null || :
	if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
		mkdir -p "$POSTGRES_INITDB_WALDIR"
		chmod 700 "$POSTGRES_INITDB_WALDIR"
	fi
	if [ "$user" = 0 ]; then
		if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
			find "$POSTGRES_INITDB_WALDIR" \! -user postgres -exec chown postgres '{}' +
		fi
		find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
		find /var/run/postgresql \! -user postgres -exec chown postgres '{}' + 2>/dev/null || :
	fi
}

check_settings() {
	case "${PG_MAJOR:-}" in 12|13) export POSTGRES_HOST_AUTH_METHOD="${POSTGRES_HOST_AUTH_METHOD:-md5}" ;; esac
	if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
		cat >&2 <<-'TEXT'
			Error: Database is uninitialized and superuser password is not specified.
			       You must specify POSTGRES_PASSWORD to a non-empty value for the
			       superuser. For example, "-e POSTGRES_PASSWORD=password" on "docker run".

			       You may also use "POSTGRES_HOST_AUTH_METHOD=trust" to allow all
			       connections without a password. This is *not* recommended.
		TEXT
		exit 1
	fi
	if [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ]; then
		echo 'WARNING: POSTGRES_HOST_AUTH_METHOD is "trust": anyone who reaches the port may connect.' >&2
	fi
}

init_cluster() {
	# a uid without a name makes initdb stop: give it one
	local uid; uid="$(id -u)"
	if ! getent passwd "$uid" >/dev/null 2>&1; then
		local wrapper
		for wrapper in /usr/lib/*/libnss_wrapper.so; do
			if [ -s "$wrapper" ]; then
				NSS_WRAPPER_PASSWD="$(mktemp)"; NSS_WRAPPER_GROUP="$(mktemp)"
				export LD_PRELOAD="$wrapper" NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
				local gid; gid="$(id -g)"
				printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$uid" "$gid" "$PGDATA" > "$NSS_WRAPPER_PASSWD"
				printf 'postgres:x:%s:\n' "$gid" > "$NSS_WRAPPER_GROUP"
				break
			fi
		done
	fi
	local wal=()
	if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
		wal=(--waldir "$POSTGRES_INITDB_WALDIR")
	fi
	# the arguments are words, quoting included
	eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") "${wal[@]}" '"${POSTGRES_INITDB_ARGS:-}"
	if [ -n "${NSS_WRAPPER_PASSWD:-}" ]; then
		rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
		unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
	fi
}

allow_hosts() {
	local method="${POSTGRES_HOST_AUTH_METHOD:-}"
	if [ "${1:-}" = postgres ]; then
		shift
	fi
	if [ -z "$method" ]; then
		method="$(postgres -C password_encryption "$@")"
	fi
	{
		printf '\n'
		if [ "$method" = trust ]; then
			printf '# every connection is trusted, from everywhere\n'
		fi
		printf 'host all all all %s\n' "$method"
	} >> "$PGDATA/pg_hba.conf"
}

sql() {
	local query=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password)
	if [ -n "${POSTGRES_DB:-}" ]; then
		query+=(--dbname "$POSTGRES_DB")
	fi
	PGHOST='' PGHOSTADDR='' "${query[@]}" "$@"
}

make_database() {
	local there
	there="$(POSTGRES_DB='' sql --dbname postgres --set db="$POSTGRES_DB" --tuples-only <<-'SQL'
		SELECT 1 FROM pg_database WHERE datname = :'db' ;
	SQL
	)"
	if [ -z "$there" ]; then
		POSTGRES_DB='' sql --dbname postgres --set db="$POSTGRES_DB" <<-'SQL'
			CREATE DATABASE :"db" ;
		SQL
		printf '\n'
	fi
}

run_init_files() {
	printf '\n'
	local file
	for file; do
		case "$file" in
			*.sh)
				if [ -x "$file" ]; then
					note "running $file"; "$file"
				else
					note "sourcing $file"; . "$file"
				fi ;;
			*.sql) note "running $file"; sql -f "$file"; printf '\n' ;;
			*.sql.gz) note "running $file"; gunzip -c "$file" | sql; printf '\n' ;;
			*.sql.xz) note "running $file"; xzcat "$file" | sql; printf '\n' ;;
			*.sql.zst) note "running $file"; zstd -dc "$file" | sql; printf '\n' ;;
			*) note "ignoring $file" ;;
		esac
		printf '\n'
	done
}

# names that init files of the official image's users rely on
docker_process_sql() { sql "$@"; }
docker_process_init_files() { run_init_files "$@"; }
file_env() { from_env_or_file "$@"; }

start_private() {
	if [ "${1:-}" = postgres ]; then
		shift
	fi
	# reachable through the socket alone until it is ready
	set -- "$@" -c listen_addresses='' -p "${PGPORT:-5432}"
	NOTIFY_SOCKET='' PGUSER="${PGUSER:-$POSTGRES_USER}" \
		pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@")" -w start
}

stop_private() {
	PGUSER="${PGUSER:-postgres}" pg_ctl -D "$PGDATA" -m fast -w stop
}

main() {
	if [ "${1:0:1}" = - ]; then
		set -- postgres "$@"
	fi
	if [ "${1:-}" = postgres ] && ! only_prints "$@"; then
		from_env_or_file POSTGRES_PASSWORD
		from_env_or_file POSTGRES_USER postgres
		from_env_or_file POSTGRES_DB "$POSTGRES_USER"
		from_env_or_file POSTGRES_INITDB_ARGS
		: "${POSTGRES_HOST_AUTH_METHOD:=}"
		export PGDATA="${PGDATA:-/var/lib/postgresql/data}"
		make_folders
		if [ "$(id -u)" = 0 ]; then
			exec gosu postgres "${BASH_SOURCE[0]}" "$@"
		fi
		if [ ! -s "$PGDATA/PG_VERSION" ]; then
			check_settings
			ls /docker-entrypoint-initdb.d/ > /dev/null
			init_cluster
			allow_hosts "$@"
			export PGPASSWORD="${PGPASSWORD:-$POSTGRES_PASSWORD}"
			start_private "$@"
			make_database
			run_init_files /docker-entrypoint-initdb.d/*
			stop_private
			unset PGPASSWORD
			printf '\nPostgreSQL init process complete; ready for start up.\n\n'
		else
			printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
		fi
		if [ -n "${STANDIN_ONLY_INIT:-}" ]; then
			return
		fi
	fi
	exec "$@"
}

# an init file may source this one for its functions
if [ "${FUNCNAME[0]:-main}" != source ]; then
	main "$@"
fi
