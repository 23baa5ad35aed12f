"""PostgreSQL as the official image lays it out."""
import os

# A small gosu: leaves root for good and becomes the command.
GOSU = '''#!/bin/sh
# gosu USER COMMAND...
user=$1
shift
exec setpriv --reuid="${user%%:*}" --regid="$(id -g "${user%%:*}")" --init-groups -- env HOME="$(getent passwd "${user%%:*}" | cut -d: -f6)" "$@"
'''


def make(box):
    box.shell("""
        groupadd -r -g 999 postgres
        useradd -r -g postgres -u 999 -d /var/lib/postgresql -s /bin/bash postgres
        install -d -o postgres -g postgres -m 1777 /var/lib/postgresql
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
    """)
    box.apt("postgresql-15", "postgresql-client-15", "locales", "libnss-wrapper", "less",
            "xz-utils", "zstd", "gnupg", "tzdata")
    box.facts["PG_VERSION"] = box.version("postgresql-15")
    box.shell("""
        localedef -i en_US -c -f UTF-8 -A /etc/locale.alias en_US.UTF-8
        # Debian's wrappers would start another server than the one on PATH
        for p in psql pg_isready pg_dump pg_dumpall pg_restore createdb dropdb createuser \
                 dropuser vacuumdb reindexdb clusterdb pg_basebackup; do
            rm -f /usr/bin/$p
            ln -s ../lib/postgresql/15/bin/$p /usr/bin/$p
        done
        rm -rf /etc/postgresql
        install -d -o postgres -g postgres -m 3777 /var/run/postgresql
        install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
        mkdir /docker-entrypoint-initdb.d
        sample=/usr/share/postgresql/15/postgresql.conf.sample
        dpkg-divert --add --rename --divert $sample.dpkg $sample
        cp $sample.dpkg $sample
        ln -sf 15/postgresql.conf.sample /usr/share/postgresql/postgresql.conf.sample
        sed -ri "s!^#?(listen_addresses)\\s*=\\s*\\S+.*!\\1 = '*'!" $sample
        grep -q "^listen_addresses = '\\*'" $sample
    """)
    box.asset("postgres/docker-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh", 0o755)
    box.asset("postgres/docker-ensure-initdb.sh", "usr/local/bin/docker-ensure-initdb.sh", 0o755)
    box.write("usr/local/bin/gosu", GOSU, 0o755)
    box.keep.append("run/postgresql")
    # The compiler for queries is 110 MB; the server does without it when it is not there.
    library = box.path("usr/lib/x86_64-linux-gnu")
    for folder in (library, box.path("usr/lib/aarch64-linux-gnu")):
        if os.path.isdir(folder):
            base = os.path.relpath(folder, box.root)
            box.without += [base + "/" + n for n in os.listdir(folder) if n.startswith("libLLVM")]
    box.without += ["usr/lib/postgresql/15/lib/bitcode", "usr/lib/postgresql/15/lib/llvmjit.so",
                    "usr/lib/postgresql/15/lib/llvmjit_types.bc", "usr/lib/llvm-14"]
