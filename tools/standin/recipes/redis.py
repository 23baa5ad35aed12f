"""Redis as the official image lays it out."""


def make(box):
    box.shell("groupadd -r -g 999 redis; useradd -r -g redis -u 999 -d /nonexistent "
              "-s /usr/sbin/nologin redis")
    box.apt("redis-server", "redis-tools", "tzdata")
    box.facts["REDIS_VERSION"] = box.version("redis-server")
    # the official image has its programs in /usr/local/bin and no configuration
    box.shell("""
        for p in redis-server redis-cli redis-benchmark redis-check-aof redis-check-rdb; do
            if [ -e /usr/bin/$p ]; then ln -s /usr/bin/$p /usr/local/bin/$p; fi
        done
        ln -s redis-server /usr/local/bin/redis-sentinel
        rm -rf /etc/redis /etc/init.d/redis-server /etc/default/redis-server
        rm -rf /var/lib/redis /var/log/redis /etc/logrotate.d/redis-server
        mkdir /data && chown redis:redis /data
    """)
    box.asset("redis/docker-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh", 0o755)
