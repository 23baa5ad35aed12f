"""memcached as the official image lays it out."""


def make(box):
    box.shell("groupadd -g 11211 memcache; useradd -g memcache -u 11211 -d /nonexistent "
              "-s /usr/sbin/nologin memcache")
    box.apt("memcached")
    box.facts["MEMCACHED_VERSION"] = box.version("memcached")
    box.shell("rm -f /etc/memcached.conf /etc/init.d/memcached /etc/default/memcached")
    box.asset("memcached/docker-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh", 0o755)
