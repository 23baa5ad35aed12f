#!/bin/sh
set -e
# `memcached` is implied before options
case "${1:-}" in -*) set -- memcached "$@" ;; esac
exec "$@"
