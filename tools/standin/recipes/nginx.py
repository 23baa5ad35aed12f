"""nginx as the official image lays it out."""


def make(box):
    box.shell("groupadd -r -g 101 nginx 2>/dev/null || groupadd -r nginx; "
              "useradd -r -g nginx -u 101 -d /nonexistent -s /bin/false nginx 2>/dev/null || "
              "useradd -r -g nginx -d /nonexistent -s /bin/false nginx")
    box.apt("nginx-light", "ca-certificates", "curl", "gettext-base", "tzdata")
    box.facts["NGINX_VERSION"] = box.version("nginx-light")
    box.shell("""
        rm -rf /etc/nginx/sites-enabled /etc/nginx/sites-available /etc/nginx/snippets \
               /etc/nginx/modules-enabled /etc/nginx/conf.d/* /etc/logrotate.d/nginx \
               /etc/init.d/nginx /var/www
        mkdir -p /usr/share/nginx/html /var/cache/nginx /docker-entrypoint.d /etc/nginx/templates
        rm -f /usr/share/nginx/html/*
        rmdir /etc/nginx/templates
        chown nginx: /var/cache/nginx
    """)
    box.asset("nginx/nginx.conf", "etc/nginx/nginx.conf")
    box.asset("nginx/default.conf", "etc/nginx/conf.d/default.conf")
    box.asset("nginx/index.html", "usr/share/nginx/html/index.html")
    box.asset("nginx/50x.html", "usr/share/nginx/html/50x.html")
    box.asset("nginx/docker-entrypoint.sh", "docker-entrypoint.sh", 0o755)
    box.asset("nginx/20-envsubst-on-templates.sh",
              "docker-entrypoint.d/20-envsubst-on-templates.sh", 0o755)
    box.shell("ln -sf /dev/stdout /var/log/nginx/access.log; "
              "ln -sf /dev/stderr /var/log/nginx/error.log; nginx -t")
    box.keep += ["var/log/nginx", "var/log/nginx/access.log", "var/log/nginx/error.log"]
