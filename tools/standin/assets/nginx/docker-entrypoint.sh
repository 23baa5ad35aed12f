#!/bin/sh
# Runs what lies in /docker-entrypoint.d before nginx starts.
set -e

say() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"
}

if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
    find /docker-entrypoint.d/ -follow -type f -print | sort -V | while read -r file; do
        case "$file" in
            *.envsh)
                if [ -x "$file" ]; then say "Sourcing $file"; . "$file"; fi ;;
            *.sh)
                if [ -x "$file" ]; then
                    say "Launching $file"; "$file"
                else
                    say "Ignoring $file, not executable"
                fi ;;
            *) say "Ignoring $file" ;;
        esac
    done
    say "Configuration complete; ready for start up"
fi

exec "$@"
