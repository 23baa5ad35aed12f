#include "base/hostenv.h"

#include "core/fs.h"

char *host_ca_bundle(void) {
    const char *const places[] = {getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt",
                                  "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < ELEMENTS(places); i++)
        if (places[i] && places[i][0] == '/' && access(places[i], R_OK) == 0)
            return xstrdup(places[i]);
    return NULL;
}

/* "http://localhost:3128" -> "http://GATEWAY:3128" */
static char *through_gateway(const char *url, const char *gateway) {
    static const char *const loop[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    const char *at = strchr(host, '@');
    if (at)
        host = at + 1;
    for (size_t i = 0; i < ELEMENTS(loop); i++) {
        const char *rest = startswith(host, loop[i]);
        if (!rest || (*rest && *rest != ':' && *rest != '/'))
            continue;
        return gateway ? xasprintf("%.*s%s%s", (int)(host - url), url, gateway, rest) : NULL;
    }
    return xstrdup(url);
}

void host_env(struct strv *ret, const char *ca_path, const char *gateway) {
    static const char *const ca[] = {"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS",
                                     "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO"};
    for (size_t i = 0; ca_path && i < ELEMENTS(ca); i++)
        strv_env_set(ret, ca[i], ca_path);
    static const char *const proxy[] = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
                                        "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"};
    for (size_t i = 0; i < ELEMENTS(proxy); i++) {
        const char *v = getenv(proxy[i]);
        if (!v || !*v)
            continue;
        _cleanup_free_ char *in = (proxy[i][0] | 32) == 'n' ? xstrdup(v) : through_gateway(v, gateway);
        if (in)
            strv_env_set(ret, proxy[i], in);
    }
}
