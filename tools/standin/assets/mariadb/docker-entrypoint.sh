#!/usr/bin/env bash
# Starts MariaDB in a container: makes the data folder on first use as the variables MARIADB_* or
# MYSQL_* ask, runs /docker-entrypoint-initdb.d, leaves root, becomes the server.
set -Eeuo pipefail

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
note() { printf '%s: %s\n' "${BASH_SOURCE[0]##*/}" "$*"; }

# setting NAME [DEFAULT]: of MARIADB_NAME, MYSQL_NAME, or the file that one of them with _FILE names
setting() {
	local name=$1 prefix variable file
	for prefix in MARIADB MYSQL; do
		variable="${prefix}_$name" file="${prefix}_${name}_FILE"
		if [ -n "${!variable:-}" ] && [ -n "${!file:-}" ]; then
			fail "both $variable and $file are set (but are exclusive)"
		fi
		if [ -n "${!variable:-}" ]; then
			printf '%s' "${!variable}"; return
		elif [ -n "${!file:-}" ]; then
			cat -- "${!file}"; return
		fi
	done
	printf '%s' "${2:-}"
}

only_prints() {
	local argument
	for argument; do
		case "$argument" in -'?'|--help|--print-defaults|-V|--version) return 0 ;; esac
	done
	return 1
}

data_folder() {
	"$@" --verbose --help 2>/dev/null | awk '$1 == "datadir" { print $2; exit }'
}

# A text as SQL has it between quotes, and a name as it has it between backticks.
quoted() { local s=${1//\\/\\\\}; printf "'%s'" "${s//\'/\'\'}"; }
named() { printf '`%s`' "${1//\`/\`\`}"; }

sql() { mariadb --protocol=socket -uroot -hlocalhost --socket="$socket" --comments "$@"; }
docker_process_sql() { sql "$@"; }

run_init_files() {
	local file
	for file; do
		case "$file" in
			*.sh)
				if [ -x "$file" ]; then note "running $file"; "$file"; else note "sourcing $file"; . "$file"; fi ;;
			*.sql) note "running $file"; sql ${database:+"$database"} < "$file" ;;
			*.sql.gz) note "running $file"; gunzip -c "$file" | sql ${database:+"$database"} ;;
			*.sql.xz) note "running $file"; xzcat "$file" | sql ${database:+"$database"} ;;
			*.sql.zst) note "running $file"; zstd -dc "$file" | sql ${database:+"$database"} ;;
			*) note "ignoring $file" ;;
		esac
	done
}

make_accounts() {
	local host root_host; root_host="$(setting ROOT_HOST %)"
	{
		printf 'SET @@SESSION.SQL_LOG_BIN=0;\n'
		printf "DELETE FROM mysql.global_priv WHERE User NOT IN ('mariadb.sys', 'root', 'mysql') OR Host NOT IN ('localhost');\n"
		printf 'FLUSH PRIVILEGES;\n'
		if [ -n "$root_host" ] && [ "$root_host" != localhost ]; then
			printf 'CREATE USER %s@%s IDENTIFIED BY %s;\n' "'root'" "$(quoted "$root_host")" "$(quoted "$root_password")"
			printf 'GRANT ALL ON *.* TO %s@%s WITH GRANT OPTION;\n' "'root'" "$(quoted "$root_host")"
		fi
		printf 'DROP DATABASE IF EXISTS test;\n'
		if [ -n "$database" ]; then
			printf 'CREATE DATABASE IF NOT EXISTS %s;\n' "$(named "$database")"
		fi
		if [ -n "$user" ] && [ -n "$password" ]; then
			printf "CREATE USER %s@'%%' IDENTIFIED BY %s;\n" "$(quoted "$user")" "$(quoted "$password")"
			if [ -n "$database" ]; then
				local pattern=${database//_/\\_}
				printf "GRANT ALL ON %s.* TO %s@'%%';\n" "$(named "$pattern")" "$(quoted "$user")"
			fi
		fi
		# The last: from here on the socket asks for it too.
		printf "ALTER USER 'root'@'localhost' IDENTIFIED BY %s;\n" "$(quoted "$root_password")"
	} | sql --database=mysql
	export MYSQL_PWD=$root_password
}

initialise() {
	local root_password user password database server waited
	root_password="$(setting ROOT_PASSWORD)"
	user="$(setting USER)" password="$(setting PASSWORD)" database="$(setting DATABASE)"
	if [ -z "$root_password" ]; then
		if [ -n "$(setting RANDOM_ROOT_PASSWORD)" ]; then
			root_password="$(head -c 24 /dev/urandom | base64)"
			note "GENERATED ROOT PASSWORD: $root_password"
		elif [ -z "$(setting ALLOW_EMPTY_PASSWORD)$(setting ALLOW_EMPTY_ROOT_PASSWORD)" ]; then
			fail 'Database is uninitialized and password option is not specified
	You need to specify one of MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD
	(or the same with MYSQL_)'
		fi
	fi
	if [ "$user" = root ]; then
		fail 'MARIADB_USER="root": the account root is made from MARIADB_ROOT_PASSWORD alone'
	fi
	note "making the data folder"
	mariadb-install-db --datadir="$data" --auth-root-authentication-method=normal --skip-test-db \
		--skip-name-resolve --rpm --user="$(id -un 2>/dev/null || id -u)" > /dev/null
	socket=$(mktemp -u /tmp/mysqld.XXXXXX.sock)
	note "starting a private server"
	"$@" --skip-networking --socket="$socket" --wsrep_on=OFF --loose-innodb_buffer_pool_load_at_startup=0 &
	server=$!
	for ((waited = 0; ; waited++)); do
		if sql --database=mysql -e 'SELECT 1' > /dev/null 2>&1; then break; fi
		if [ "$waited" -ge 300 ] || ! kill -0 "$server" 2>/dev/null; then fail "the private server does not start"; fi
		sleep 0.1
	done
	make_accounts
	if [ -d /docker-entrypoint-initdb.d ]; then
		run_init_files /docker-entrypoint-initdb.d/*
	fi
	unset MYSQL_PWD
	kill "$server"
	wait "$server" || fail "the private server did not end well"
	note "MariaDB init process done. Ready for start up."
}

shopt -s nullglob
if [ "${1:0:1}" = - ]; then
	set -- mariadbd "$@"
fi
case "${1:-}" in mariadbd|mysqld)
	if ! only_prints "$@"; then
		data="$(data_folder "$@")"
		[ -n "$data" ] || fail "the server does not tell its data folder: are its options right?"
		mkdir -p "$data" /run/mysqld 2>/dev/null || true
		if [ "$(id -u)" = 0 ]; then
			find "$data" /run/mysqld \! -user mysql -exec chown mysql: '{}' + 2>/dev/null || true
			exec gosu mysql "${BASH_SOURCE[0]}" "$@"
		fi
		if [ ! -d "$data/mysql" ]; then
			initialise "$@"
		fi
	fi ;;
esac
exec "$@"
