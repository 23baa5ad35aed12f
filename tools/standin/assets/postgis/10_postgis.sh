#!/bin/sh
# The extension in a template of its own and in the database that was asked for.
set -e
export PGUSER="$POSTGRES_USER"
psql --dbname postgres -c 'CREATE DATABASE template_postgis IS_TEMPLATE true'
for database in template_postgis "$POSTGRES_DB"; do
	psql --dbname "$database" -c 'CREATE EXTENSION IF NOT EXISTS postgis' \
		-c 'CREATE EXTENSION IF NOT EXISTS postgis_topology' \
		-c 'CREATE EXTENSION IF NOT EXISTS fuzzystrmatch' \
		-c 'CREATE EXTENSION IF NOT EXISTS postgis_tiger_geocoder'
done
