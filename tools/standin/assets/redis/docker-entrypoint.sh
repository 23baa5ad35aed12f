#!/bin/sh
set -e

# `redis-server` is implied before options and configuration files
case "${1:-}" in
	-*|*.conf) set -- redis-server "$@" ;;
esac

# What belongs to redis is given to it, then root is left.
if [ "${1:-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find . \! -user redis -exec chown redis '{}' + 2>/dev/null || true
	exec setpriv --reuid=redis --regid=redis --init-groups -- "$0" "$@"
fi

# Files are private unless somebody chose otherwise.
if [ "$(umask)" = 0022 ]; then
	umask 0077
fi

# The official build has protected mode off: other containers are not on localhost.
if [ "${1:-}" = redis-server ] && [ -z "${REDIS_PROTECTED_MODE_KEEP:-}" ]; then
	case " $* " in
		*protected-mode*) ;;
		*)
			if ! { [ -f "${2:-}" ] && grep -qi '^[[:space:]]*protected-mode' "$2"; }; then
				set -- "$@" --protected-mode no
			fi ;;
	esac
fi

exec "$@"
