#pragma once
/* HTTP client on libcurl (dlopened on first use). Blocking: call on a worker. Proxies and
 * CA bundle (CURL_CA_BUNDLE, SSL_CERT_FILE, SSL_CERT_DIR) come from the environment; loopback is
 * never asked through a proxy; .netrc is not read. Redirects are followed here, at most 10; an
 * Authorization header never goes to another scheme, host or port, nor is https left for http.
 * Header values with control characters are refused. Errors name no query string. */
#include "core/err.h"
#include "core/str.h"

struct http_header {
    const char *name, *value;
};
typedef int (*http_write_fn)(void *arg, const void *p, size_t n);          /* negative stops */
typedef ssize_t (*http_read_fn)(void *arg, void *p, size_t n);             /* 0 = end */
typedef void (*http_progress_fn)(void *arg, uint64_t done, uint64_t total);
struct http_req {
    const char *method; /* "GET" when NULL */
    const char *url;
    struct http_header headers[24];
    size_t n_headers;
    const char *basic_user, *basic_pass; /* or NULL */
    const char *bearer;                  /* or NULL */
    struct sv body;                      /* or a reader: */
    http_read_fn read;
    void *read_arg;
    uint64_t body_size; /* with read; UINT64_MAX = chunked */
    int (*rewind)(void *arg);
    http_write_fn write; /* body of a 2xx answer; NULL: into resp->body */
    void *write_arg;
    uint64_t max_body;  /* 0 = 16 MiB for resp->body, no limit for write */
    uint64_t range_from; /* a server that ignores it: what comes before is dropped, write sees the rest */
    const char *unix_socket;
    bool insecure_tls;   /* only for registries named so in the configuration */
    bool no_redirect;
    int connect_timeout_ms, stall_timeout_ms; /* 0 = 20 s, 60 s without a byte */
    const volatile int *cancel; /* non-zero stops with -ECANCELED */
    http_progress_fn progress;
    void *progress_arg;
};
struct http_resp {
    int status;
    struct strv headers; /* "name: value", names lower-cased, of the last answer */
    struct buf body;     /* bounded; error bodies also when `write` is set (64 KiB) */
    char *final_url;
};
/* 0 when an HTTP answer came, whatever its status; negative errno for the transport. */
int http_do(const struct http_req *rq, struct http_resp *ret, struct err *e);
const char *http_header(const struct http_resp *r, const char *name); /* first, or NULL */
void http_resp_done(struct http_resp *r);
#define _cleanup_http_ _cleanup_(http_resp_done)
