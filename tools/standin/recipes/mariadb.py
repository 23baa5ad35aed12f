"""MariaDB as the official images of it and of MySQL lay them out."""
from . import postgres


def make(box):
    box.shell("groupadd -r -g 999 mysql; useradd -r -g mysql -u 999 -d /var/lib/mysql "
              "-s /usr/sbin/nologin mysql")
    box.apt("mariadb-server", "tzdata", "xz-utils", "zstd")
    box.facts["MARIADB_VERSION"] = box.version("mariadb-server").split(":")[-1]
    box.shell("""
        rm -rf /var/lib/mysql /etc/init.d/mariadb /etc/logrotate.d/mariadb
        install -d -o mysql -g mysql -m 0777 /var/lib/mysql /run/mysqld
        mkdir /docker-entrypoint-initdb.d
        # listens to everyone, looks no name up, keeps no log files of its own
        sed -i -e '/^bind-address/d' -e '/^pid-file/d' /etc/mysql/mariadb.conf.d/50-server.cnf
        test -e /usr/bin/mysqladmin
        test -e /usr/sbin/mysqld
    """)
    box.write("etc/mysql/mariadb.conf.d/99-docker.cnf",
              "[mariadbd]\nskip-name-resolve\nhost-cache-size = 0\n"
              "character-set-server = utf8mb4\ncollation-server = utf8mb4_general_ci\n")
    box.asset("mariadb/docker-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh", 0o755)
    box.asset("mariadb/healthcheck.sh", "usr/local/bin/healthcheck.sh", 0o755)
    box.write("usr/local/bin/gosu", postgres.GOSU, 0o755)
    box.keep.append("run/mysqld")
