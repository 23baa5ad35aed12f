#include "test.h"

#include "base/http.h"
#include "base/httpd.h"
#include "core/fs.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A server on a thread of its own, whose handler does what the path says. */
static struct loop *loop;
static struct httpd *server, *second;
static uint16_t port, port2;
static char sock_path[64];
static pthread_t thread;
static int aborts, bodies_refused, spool_result;
static uint64_t spool_size;
static char other_url[64];

static void echo(struct httpd_req *rq, struct sv body, bool ok, void *arg) {
    if (!ok) {
        bodies_refused++;
        return;
    }
    _cleanup_buf_ struct buf b = BUF_LARGE;
    buf_addsv(&b, body);
    httpd_reply(rq, 200, "text/plain", buf_sv(&b));
}
static void spooled(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    int fd = (int)(intptr_t)arg;
    spool_result = r;
    spool_size = size;
    if (r == 0)
        httpd_reply_fd(rq, 201, "application/octet-stream", dup(fd), 0, size);
    close(fd);
}
static void spooled_devfull(struct httpd_req *rq, int r, uint64_t size, void *arg) {
    close((int)(intptr_t)arg);
    spool_result = r;
    if (r != -ECONNRESET && r != -EFBIG)
        httpd_reply(rq, 507, NULL, SV(""));
}
struct flood {
    uint64_t left;
    bool aborted;
};
static void pour(struct httpd_req *rq, void *arg) {
    static char block[100000];
    struct flood *f = arg;
    while (f->left) {
        size_t n = (size_t)MIN(f->left, (uint64_t)sizeof block);
        f->left -= n;
        int r = httpd_write(rq, sv_n(block, n));
        if (r < 0)
            return; /* the abort callback frees */
        if (r > 0)
            return;
    }
    free(f);
    httpd_finish(rq);
}
static void flood_abort(struct httpd_req *rq, void *arg) {
    aborts++;
    free(arg);
}
static void count_abort(struct httpd_req *rq, void *arg) { aborts++; }
/* Both ends of an exchange know the same owner: only one of them may be told. */
static int owner_ends;
static void owner_body(struct httpd_req *rq, struct sv body, bool ok, void *arg) { owner_ends += !ok; }
static void owner_spool(struct httpd_req *rq, int r, uint64_t size, void *arg) { owner_ends += r < 0; }
static void owner_abort(struct httpd_req *rq, void *arg) { owner_ends++; }
struct later {
    struct httpd_req *rq;
};
static void answer_later(struct loop *l, void *arg) {
    struct later *x = arg;
    httpd_reply(x->rq, 200, "text/plain", SV("later"));
    free(x);
}
static void nap(void *arg) { usleep(50000); }
static void hijacked(struct httpd_req *rq) {
    struct buf early = BUF_SMALL;
    int fd;
    if (httpd_hijack(rq, "application/x-raw", &fd, &early) < 0)
        return;
    fcntl(fd, F_SETFL, 0);
    buf_adds(&early, "|");
    fd_write_all(fd, early.p, early.n);
    char c;
    while (read(fd, &c, 1) == 1)
        fd_write_all(fd, &c, 1);
    close(fd);
    buf_done(&early);
}

static void handler(struct httpd_req *rq, void *arg) {
    const char *p = httpd_path(rq);
    if (streq(p, "/hello")) {
        const char *who = httpd_query(rq, "who");
        char text[100];
        snprintf(text, sizeof text, "hello %s", who ? who : "?");
        httpd_add_header(rq, "X-Method", httpd_method(rq));
        httpd_add_header(rq, "X-Bad", "a\r\nInjected: yes");
        httpd_reply(rq, 200, "text/plain", sv_from(text));
    } else if (streq(p, "/echo")) {
        httpd_collect(rq, 1 << 20, echo, NULL);
    } else if (streq(p, "/spool")) {
        int fd = memfd_create("s", MFD_CLOEXEC);
        httpd_spool(rq, fd, 64 << 20, spooled, (void *)(intptr_t)fd);
    } else if (streq(p, "/full")) {
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        httpd_spool(rq, fd, 64 << 20, spooled_devfull, (void *)(intptr_t)fd);
    } else if (streq(p, "/flood")) {
        struct flood *f = calloc(1, sizeof *f);
        f->left = 30000000;
        httpd_on_drain(rq, pour, f);
        httpd_on_abort(rq, flood_abort, f);
        httpd_start(rq, 200);
        pour(rq, f);
    } else if (streq(p, "/hang")) {
        httpd_on_abort(rq, count_abort, NULL);
    } else if (streq(p, "/owned")) {
        httpd_on_abort(rq, owner_abort, NULL);
        httpd_collect(rq, 1 << 20, owner_body, NULL);
    } else if (streq(p, "/owned-spool")) {
        _cleanup_close_ int fd = memfd_create("s", MFD_CLOEXEC);
        httpd_on_abort(rq, owner_abort, NULL);
        httpd_spool(rq, fd, 1 << 20, owner_spool, NULL);
    } else if (streq(p, "/later")) {
        struct later *x = calloc(1, sizeof *x);
        x->rq = rq;
        loop_work(loop, nap, answer_later, x);
    } else if (streq(p, "/attach")) {
        hijacked(rq);
    } else if (streq(p, "/auth")) {
        const char *a = httpd_header(rq, "authorization");
        httpd_reply(rq, 200, NULL, sv_from(a ? a : "none"));
    } else if (streq(p, "/away") || streq(p, "/home") || streq(p, "/loop")) {
        httpd_add_header(rq, "Location", streq(p, "/away") ? other_url : streq(p, "/home") ? "/auth" : "/loop");
        httpd_reply(rq, 307, NULL, SV("x"));
    } else if (streq(p, "/parts")) {
        const char *range = httpd_header(rq, "range");
        uint64_t from = 0;
        if (range && httpd_query(rq, "ranges"))
            sv_u64(sv_n(range + 6, strcspn(range + 6, "-")), 100, &from);
        if (from) {
            char cr[64];
            snprintf(cr, sizeof cr, "bytes %d-9/10", (int)from);
            httpd_add_header(rq, "Content-Range", cr);
        }
        httpd_reply(rq, from ? 206 : 200, NULL, sv_sub(SV("0123456789"), (size_t)from, 10));
    } else {
        httpd_reply(rq, 404, "text/plain", SV("no such page"));
    }
}

static void stop(struct loop *l, void *arg) { loop_stop(l, 0); }
static void *serve(void *arg) {
    loop_run(loop);
    return NULL;
}

static void start(void) {
    if (loop)
        return;
    struct err e = {0};
    CHECK_INT(loop_new(&loop), 0);
    int fd = listen_tcp("127.0.0.1", 0, &port, &e);
    CHECK(fd >= 0 && port > 0);
    CHECK_INT(httpd_new(&server, loop, fd, handler, NULL), 0);
    snprintf(sock_path, sizeof sock_path, "/tmp/test_httpd.%d", getpid());
    fd = listen_unix(sock_path, 0600, &e);
    CHECK(fd >= 0);
    CHECK(listen_unix(sock_path, 0600, &e) == -EADDRINUSE);
    CHECK_INT(httpd_new(&second, loop, fd, handler, NULL), 0);
    pthread_create(&thread, NULL, serve, NULL);
}

static struct http_resp get(const char *path, struct http_req rq) {
    char url[256];
    struct http_resp resp = {0};
    struct err e = {0};
    start();
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, path);
    rq.url = url;
    int r = http_do(&rq, &resp, &e);
    CHECK_INT(r, 0);
    if (r < 0)
        fprintf(stderr, "%s: %s\n", path, e.msg);
    return resp;
}

TEST(simple_requests) {
    for (int i = 0; i < 5; i++) {
        struct http_resp r = get("/hello?a=b&who=W%C3%B6rld+x", (struct http_req){0});
        CHECK_INT(r.status, 200);
        CHECK_STR(buf_str(&r.body), "hello Wörld x");
        CHECK_STR(http_header(&r, "X-Method"), "GET");
        CHECK(http_header(&r, "X-Bad") == NULL && http_header(&r, "Injected") == NULL);
        http_resp_done(&r);
    }
    struct http_resp r = get("/nope", (struct http_req){0});
    CHECK_INT(r.status, 404);
    CHECK_STR(buf_str(&r.body), "no such page");
    http_resp_done(&r);
    r = get("/hello", (struct http_req){.method = "HEAD"});
    CHECK_INT(r.status, 200);
    CHECK_STR(http_header(&r, "content-length"), "7");
    CHECK_INT(r.body.n, 0);
    http_resp_done(&r);
    r = get("/later", (struct http_req){0});
    CHECK_STR(buf_str(&r.body), "later");
    http_resp_done(&r);
}

struct source {
    uint64_t at, total;
};
static ssize_t produce(void *arg, void *p, size_t n) {
    struct source *s = arg;
    n = (size_t)MIN((uint64_t)n, s->total - s->at);
    for (size_t i = 0; i < n; i++)
        ((char *)p)[i] = (char)((s->at + i) * 31 >> 3);
    s->at += n;
    return (ssize_t)n;
}
static int rewind_source(void *arg) {
    ((struct source *)arg)->at = 0;
    return 0;
}
static int verify(void *arg, const void *p, size_t n) {
    struct source *s = arg;
    for (size_t i = 0; i < n; i++)
        if (((const char *)p)[i] != (char)((s->at + i) * 31 >> 3))
            return -EBADMSG;
    s->at += n;
    return 0;
}

TEST(bodies) {
    struct http_resp r = get("/echo", (struct http_req){.method = "POST", .body = SV("some body")});
    CHECK_STR(buf_str(&r.body), "some body");
    http_resp_done(&r);
    r = get("/echo", (struct http_req){.method = "POST"});
    CHECK_INT(r.status, 200);
    CHECK_INT(r.body.n, 0);
    http_resp_done(&r);
    static const uint64_t sizes[] = {0, 1, 300000, 20000000};
    for (size_t i = 0; i < ELEMENTS(sizes); i++)
        for (int chunked = 0; chunked < 2; chunked++) {
            struct source up = {0, sizes[i]}, down = {0};
            r = get("/spool", (struct http_req){.method = "PUT", .read = produce, .read_arg = &up, .rewind = rewind_source,
                                                .body_size = chunked ? UINT64_MAX : sizes[i], .write = verify, .write_arg = &down});
            CHECK_INT(r.status, 201);
            CHECK_INT(down.at, sizes[i]);
            http_resp_done(&r);
        }
}

TEST(too_large) {
    _cleanup_free_ char *big = calloc(1, 2 << 20);
    struct http_resp r = get("/echo", (struct http_req){.method = "POST", .body = sv_n(big, 2 << 20)});
    CHECK_INT(r.status, 413);
    CHECK_INT(bodies_refused, 1);
    http_resp_done(&r);
    struct source up = {0, 3 << 20};
    r = get("/echo", (struct http_req){.method = "POST", .read = produce, .read_arg = &up, .body_size = UINT64_MAX});
    CHECK_INT(r.status, 413);
    http_resp_done(&r);
    up = (struct source){0, 3 << 20};
    r = get("/full", (struct http_req){.method = "POST", .read = produce, .read_arg = &up, .body_size = 3 << 20});
    CHECK_INT(r.status, 507);
    CHECK_INT(spool_result, -ENOSPC);
    http_resp_done(&r);
    struct err e = {0};
    struct http_resp none = {0};
    char url[100];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/flood", port);
    CHECK_INT(http_do(&(struct http_req){.url = url, .max_body = 1000}, &none, &e), -EFBIG);
    CHECK_INT(e.kind, ERR_LIMIT);
}

static int count(void *arg, const void *p, size_t n) {
    *(uint64_t *)arg += n;
    return 0;
}
TEST(streams_with_backpressure) {
    uint64_t n = 0;
    struct http_resp r = get("/flood", (struct http_req){.write = count, .write_arg = &n});
    CHECK_INT(r.status, 200);
    CHECK_INT(n, 30000000);
    http_resp_done(&r);
}

TEST(credentials_stay_home) {
    struct http_resp r = get("/home", (struct http_req){.basic_user = "u", .basic_pass = "p"});
    CHECK_STR(buf_str(&r.body), "Basic dTpw");
    CHECK(endswith(r.final_url, "/auth"));
    http_resp_done(&r);
    snprintf(other_url, sizeof other_url, "http://localhost:%u/auth", port); /* another host */
    r = get("/away", (struct http_req){.bearer = "t"});
    CHECK_STR(buf_str(&r.body), "none");
    http_resp_done(&r);
    r = get("/away", (struct http_req){.headers = {{"Authorization", "x"}}, .n_headers = 1});
    CHECK_STR(buf_str(&r.body), "none");
    http_resp_done(&r);
    r = get("/away", (struct http_req){.bearer = "t", .no_redirect = true});
    CHECK_INT(r.status, 307);
    http_resp_done(&r);
    struct err e = {0};
    struct http_resp none;
    char url[100];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/loop?token=secret", port);
    CHECK_INT(http_do(&(struct http_req){.url = url}, &none, &e), -ELOOP);
    snprintf(other_url, sizeof other_url, "file:///etc/passwd");
    snprintf(url, sizeof url, "http://127.0.0.1:%u/away", port);
    CHECK(http_do(&(struct http_req){.url = url}, &none, &e) < 0);
    CHECK(http_do(&(struct http_req){.url = "file:///etc/passwd"}, &none, &e) < 0);
    CHECK(http_do(&(struct http_req){.url = url, .headers = {{"A", "b\r\nC: d"}}, .n_headers = 1}, &none, &e) < 0);
    CHECK(http_do(&(struct http_req){.url = "http://127.0.0.1:1/x?token=secret"}, &none, &e) < 0);
    CHECK_INT(e.kind, ERR_NET);
    CHECK(strstr(e.msg, "secret") == NULL);
}

static int append(void *arg, const void *p, size_t n) {
    buf_add(arg, p, n);
    return 0;
}
TEST(ranges) {
    for (int i = 0; i < 2; i++) {
        struct buf b = BUF_SMALL;
        struct http_resp r = get(i ? "/parts?ranges=1" : "/parts", (struct http_req){.range_from = 4, .write = append, .write_arg = &b});
        CHECK_INT(r.status, i ? 206 : 200);
        CHECK_STR(buf_str(&b), "456789");
        http_resp_done(&r);
        buf_done(&b);
    }
}

/* Raw bytes in, everything that comes back out (until the server closes, or a time-out). */
static void raw(const char *send_text, struct buf *out, bool half_close) {
    start();
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, sock_path, strlen(sock_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK(fd_write_all(fd, send_text, strlen(send_text)) == 0);
    if (half_close)
        shutdown(fd, SHUT_WR);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char block[1000];
    while (poll(&p, 1, 300) > 0) {
        ssize_t n = read(fd, block, sizeof block);
        if (n <= 0)
            break;
        buf_add(out, block, (size_t)n);
    }
    close(fd);
}

TEST(raw_connections) {
    struct buf b = BUF_LARGE;
    raw("GET /hello?who=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /hello?who=2 HTTP/1.1\r\nHost: x\r\n\r\n", &b, false);
    CHECK(strstr(buf_str(&b), "hello 1") && strstr(buf_str(&b), "hello 2"));
    buf_reset(&b);
    raw("GET / HTTP/1.1\r\n\r\n", &b, false);
    CHECK(startswith(buf_str(&b), "HTTP/1.1 400 ") != NULL);
    buf_reset(&b);
    raw("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", &b, false);
    CHECK(startswith(buf_str(&b), "HTTP/1.1 100 ") != NULL);
    buf_reset(&b);
    raw("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2000000000\r\n\r\n", &b, false);
    CHECK(startswith(buf_str(&b), "HTTP/1.1 413 ") != NULL);
    buf_reset(&b);
    raw("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", &b, false);
    CHECK(startswith(buf_str(&b), "HTTP/1.1 400 ") != NULL);
    buf_reset(&b);
    raw("POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /hello?who=3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &b, false);
    CHECK(strstr(buf_str(&b), "hello 3") && strstr(buf_str(&b), "Connection: close"));
    buf_reset(&b);
    raw("GET /flood HTTP/1.0\r\n\r\n", &b, false);
    CHECK(b.n > 30000000 && b.n < 30001000);
    buf_done(&b);
}

TEST(hijack) {
    struct buf b = BUF_SMALL;
    raw("POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly", &b, true);
    CHECK(startswith(buf_str(&b), "HTTP/1.1 101 UPGRADED\r\n") != NULL);
    CHECK(strstr(buf_str(&b), "Upgrade: tcp\r\n") != NULL);
    CHECK(endswith(buf_str(&b), "\r\n\r\nearly|"));
    buf_reset(&b);
    raw("POST /attach HTTP/1.1\r\nHost: x\r\n\r\n", &b, true);
    CHECK(startswith(buf_str(&b), "HTTP/1.1 200 OK\r\n") != NULL);
    buf_done(&b);
}

TEST(clients_that_go_away) {
    struct buf b = BUF_MAX(100);
    int before = aborts;
    raw("GET /hang HTTP/1.1\r\nHost: x\r\n\r\n", &b, false);
    raw("GET /hang HTTP/1.1\r\nHost: x\r\n\r\n", &b, true);
    raw("POST /spool HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\nabc", &b, true);
    raw("POST /owned HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc", &b, true);
    raw("POST /owned-spool HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc", &b, true);
    raw("GET /later HTTP/1.1\r\nHost: x\r\n\r\n", &b, true); /* answered after the client has gone */
    struct source none = {0, 0};
    volatile int cancel = 1;
    struct http_resp resp;
    char url[100];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/hang", port);
    CHECK_INT(http_do(&(struct http_req){.url = url, .cancel = &cancel, .read_arg = &none}, &resp, NULL), -ECANCELED);
    usleep(200000);
    CHECK_INT(aborts, before + 2);
    CHECK_INT(spool_result, -ECONNRESET);
    CHECK_INT(owner_ends, 2);
    buf_done(&b);
}

TEST(tls) {
    start();
    char dir[] = "/tmp/test_httpd.XXXXXX", cmd[512], cert[64], key[64], url[64];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(cert, sizeof cert, "%s/cert", dir);
    snprintf(key, sizeof key, "%s/key", dir);
    snprintf(cmd, sizeof cmd, "openssl req -x509 -newkey rsa:2048 -nodes -keyout %s -out %s -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null", key, cert);
    CHECK_INT(system(cmd), 0);
    struct loop *l;
    struct httpd *h;
    struct err e = {0};
    CHECK_INT(loop_new(&l), 0);
    int fd = listen_tcp("127.0.0.1", 0, &port2, &e);
    CHECK_INT(httpd_new(&h, l, fd, handler, NULL), 0);
    CHECK(httpd_tls(h, "/nonexistent", key, &e) < 0);
    CHECK_INT(httpd_tls(h, cert, key, &e), 0);
    struct loop *first = TAKE(loop);
    loop = l;
    pthread_t t;
    pthread_create(&t, NULL, serve, NULL);
    snprintf(url, sizeof url, "https://localhost:%u/spool", port2);
    struct http_resp resp = {0};
    CHECK(http_do(&(struct http_req){.url = url}, &resp, &e) < 0); /* nobody trusts it */
    CHECK(e.hint[0]);
    setenv("CURL_CA_BUNDLE", cert, 1);
    struct source up = {0, 5000000}, down = {0};
    int r = http_do(&(struct http_req){.url = url, .method = "PUT", .read = produce, .read_arg = &up, .body_size = 5000000,
                                       .write = verify, .write_arg = &down}, &resp, &e);
    CHECK_INT(r, 0);
    if (r < 0)
        fprintf(stderr, "%s\n", e.msg);
    CHECK_INT(down.at, 5000000);
    http_resp_done(&resp);
    unsetenv("CURL_CA_BUNDLE");
    loop_post(l, stop, NULL);
    pthread_join(t, NULL);
    httpd_free(h);
    loop_once(l, 0);
    loop_free(l);
    loop = first;
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    CHECK_INT(system(cmd), 0);
}

TEST(zz_shutdown) {
    start();
    loop_post(loop, stop, NULL);
    pthread_join(thread, NULL);
    httpd_free(server);
    httpd_free(second);
    loop_once(loop, 0);
    loop_free(loop);
    unlink(sock_path);
}
