"""PostGIS over the stand-in of PostgreSQL, as its own image has it."""


def make(box):
    box.apt("postgresql-15-postgis-3")
    box.asset("postgis/10_postgis.sh", "docker-entrypoint-initdb.d/10_postgis.sh", 0o755)
