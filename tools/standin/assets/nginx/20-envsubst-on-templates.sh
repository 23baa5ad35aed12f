#!/bin/sh
# Fills the templates in /etc/nginx/templates from the environment.
set -e

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

[ -d "$templates" ] || exit 0
# only variables that are set: nginx has variables of its own
defined=$(printf '${%s} ' $(awk 'END { for (name in ENVIRON) { print (name ~ /'"${NGINX_ENVSUBST_FILTER:-}"'/) ? name : "" } }' < /dev/null))
find "$templates" -follow -type f -name "*$suffix" -print | while read -r template; do
    relative=${template#"$templates/"}
    target=$output/${relative%"$suffix"}
    mkdir -p "$output/$(dirname "$relative")"
    envsubst "$defined" < "$template" > "$target"
done
