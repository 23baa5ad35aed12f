#!/usr/bin/env bash
# Initialises the cluster when it is not there and does nothing else.
set -Eeuo pipefail
STANDIN_ONLY_INIT=1 exec /usr/local/bin/docker-entrypoint.sh postgres "$@"
