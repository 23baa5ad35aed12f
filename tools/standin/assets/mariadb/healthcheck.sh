#!/usr/bin/env bash
# healthcheck.sh --connect|--innodb_initialized|--su-mysql|--su=USER|--defaults-file=FILE...
# Every check that is named must hold. An answer that the password is wrong is an answer.
set -u
checks=0
for argument; do
	case "$argument" in
		--connect)
			checks=$((checks + 1))
			answer="$(mariadb --protocol=tcp -h127.0.0.1 --connect-timeout=5 -e 'SELECT 1' 2>&1)" && continue
			case "$answer" in *'ERROR 1045'*|*'ERROR 1698'*) ;; *) exit 1 ;; esac ;;
		--innodb_initialized)
			checks=$((checks + 1))
			answer="$(mariadb --protocol=tcp -h127.0.0.1 --connect-timeout=5 --skip-column-names -e \
				"select 1 from information_schema.ENGINES WHERE engine='innodb' AND support IN ('YES','DEFAULT','ENABLED')" 2>&1)" && continue
			case "$answer" in *'ERROR 1045'*|*'ERROR 1698'*) ;; *) exit 1 ;; esac ;;
		--su-mysql|--su=*|--no-connect|--defaults-*) ;;
		*) echo "healthcheck.sh: $argument is not there in this stand-in" >&2; exit 1 ;;
	esac
done
[ "$checks" -gt 0 ]
