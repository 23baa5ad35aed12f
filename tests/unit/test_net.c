/* A job's network on this host: names, addresses, published ports, the host's loopback. */
#include "box_fixture.h"

#include "box/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

static struct box_net *net(void) {
    struct err e = {0};
    struct box_net *n = NULL;
    if (net_new(store, lease, NULL, &n, &e) == 0)
        return n;
    if (e.kind == ERR_ENV) { /* no /dev/net/tun: all but the way out can be tried */
        fprintf(stderr, "# %s\n", e.msg);
        struct net_options o = {.mode = NET_ISOLATED};
        if (net_new(store, lease, &o, &n, &e) == 0)
            return n;
    }
    fail_with(&e, "network");
    return NULL;
}

static struct box *make(struct box_net *n, bool own, const char *host, const char *names) {
    struct err e = {0};
    struct box *b = NULL;
    struct box_spec spec = {.name = host,
                            .layers = base_layers,
                            .n_layers = 1,
                            .hostname = host,
                            .net = n,
                            .net_own_ip = own,
                            .net_name = names};
    if (box_create(store, lease, &spec, &b, &e) < 0)
        fail_with(&e, "create");
    return b;
}

/* `busybox nc` that answers every connection with a word. */
static struct box_proc *serve(struct box *b, const char *port, const char *word) {
    struct err e = {0};
    struct box_proc *p = NULL;
    char script[256];
    snprintf(script, sizeof script, "nc -ll -p %s -e echo %s", port, word);
    struct box_exec x = {.argv = (const char *const[]){"sh", "-c", script, NULL},
                         .in = -1,
                         .out = -1,
                         .err = -1,
                         .new_pidns = true};
    if (box_exec(b, &x, &p, &e) < 0)
        fail_with(&e, "serve");
    usleep(100000);
    return p;
}

TEST(services) {
    char out[8192];
    struct err e = {0};
    struct box_net *n;
    if (!box_ready() || !(n = net()))
        return;
    struct box *job = make(n, false, "job", NULL), *db = make(n, true, "c1", "postgres,db"),
               *web = make(n, true, "c2", "web");
    if (job && db && web) {
        struct box_proc *p = serve(db, "80", "from-db");
        /* By name, by address, from the job and from a peer; a port below 1024 for nobody special.
         */
        CHECK_INT(box_run(job, "runner", "nc -w 3 postgres 80 </dev/null; nc -w 3 db 80 </dev/null",
                          out, sizeof out),
                  0);
        CHECK_STR(out, "from-db\nfrom-db\n");
        CHECK_INT(box_run(web, NULL, "nc -w 3 postgres 80 </dev/null", out, sizeof out), 0);
        CHECK_STR(out, "from-db\n");
        /* Published: on the job's localhost, v4 and v6, and its other address. */
        uint16_t port = 5432, any = 0, twice = 5432;
        CHECK_INT(net_publish(n, box_ip(db), 80, &port, "tcp", &e), 0);
        CHECK_INT(net_publish(n, box_ip(db), 80, &any, "tcp", &e), 0);
        CHECK(any > 1024);
        CHECK_INT(net_publish(n, box_ip(db), 80, &twice, "tcp", &e), -EADDRINUSE);
        CHECK_INT(
            box_run(job, NULL,
                    "for a in 127.0.0.1 localhost ::1 job; do nc -w 3 $a 5432 </dev/null; done",
                    out, sizeof out),
            0);
        CHECK_STR(out, "from-db\nfrom-db\nfrom-db\nfrom-db\n");
        CHECK_INT(net_unpublish(n, 5432, "tcp"), 0);
        CHECK(box_run(job, NULL, "nc -w 3 127.0.0.1 5432 </dev/null", out, sizeof out) != 0);
        /* A publish of what nobody serves is refused, not accepted and hung. */
        port = 6000;
        CHECK_INT(net_publish(n, box_ip(db), 81, &port, "tcp", &e), 0);
        CHECK_INT(box_run(job, NULL, "nc -w 3 127.0.0.1 6000 </dev/null", out, sizeof out) == 0 &&
                      out[0],
                  0);
        /* A step may write into /etc/hosts; names that go take only their own lines. */
        CHECK_INT(box_run(job, NULL, "echo 127.0.0.9 mine >>/etc/hosts", out, sizeof out), 0);
        CHECK_INT(net_name_add(n, "10.9.9.9", "late"), 0);
        CHECK_INT(box_run(web, NULL, "grep -c -E 'mine|late' /etc/hosts", out, sizeof out), 0);
        CHECK_STR(out, "2\n");
        CHECK_INT(net_name_del(n, "10.9.9.9"), 0);
        CHECK(net_name_add(n, "10.9.9.9", "bad name") < 0);
        CHECK(net_name_add(n, "not an ip", "name") < 0);
        box_destroy(db);
        db = NULL;
        CHECK_INT(box_run(web, NULL, "grep -c -E 'mine|late|postgres' /etc/hosts", out, sizeof out),
                  0);
        CHECK_STR(out, "1\n");
        box_proc_free(p);
    }
    box_destroy(db);
    box_destroy(web);
    box_destroy(job);
    net_free(n);
}

static int udp_socket(struct sockaddr_in *a) {
    socklen_t len = sizeof *a;
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)a, sizeof *a) < 0 ||
        getsockname(fd, (struct sockaddr *)a, &len) < 0)
        return -1;
    return fd;
}

/* Each client has its own way back. */
TEST(udp_proxy) {
    struct sockaddr_in server, front, me, from;
    socklen_t len = sizeof from;
    struct loop *l = NULL;
    char out[64];
    int s = udp_socket(&server), f = udp_socket(&front), c[2] = {udp_socket(&me), udp_socket(&me)};
    if (s < 0 || f < 0 || loop_new(&l) < 0) {
        CHECK(0);
        return;
    }
    struct proxy *p = proxy_udp(l, f, &server);
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < 2; i++) {
            char word[8] = {(char)('a' + i), 0};
            CHECK(sendto(c[i], word, 2, 0, (struct sockaddr *)&front, sizeof front) == 2);
            loop_once(l, 1000);
            CHECK(recvfrom(s, out, sizeof out, 0, (struct sockaddr *)&from, &len) == 2);
            CHECK_STR(out, word);
            word[0] = (char)('A' + i);
            CHECK(sendto(s, word, 2, 0, (struct sockaddr *)&from, len) == 2);
            loop_once(l, 1000);
            CHECK(recv(c[i], out, sizeof out, MSG_DONTWAIT) == 2);
            CHECK_STR(out, word);
        }
    proxy_free(p);
    loop_free(l);
    close(s);
    close(c[0]);
    close(c[1]);
}

static int to_listener(void *arg) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, arg, sizeof(struct sockaddr_in)) < 0) {
        close(fd);
        return -ECONNREFUSED;
    }
    return fd;
}

static void *proxy_thread(void *arg) {
    loop_run(arg);
    return NULL;
}

static void stop(struct loop *l, void *arg) {
    proxy_free(arg);
    loop_stop(l, 0);
}

/* 32 MB one way, their sum back after the half-close; and a target that is not there. */
TEST(tcp_proxy) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, b = a;
    socklen_t len = sizeof a;
    struct loop *l = NULL;
    pthread_t t;
    int srv = socket(AF_INET, SOCK_STREAM, 0),
        front = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(bind(srv, (struct sockaddr *)&a, sizeof a) == 0 && listen(srv, 8) == 0);
    CHECK(bind(front, (struct sockaddr *)&b, sizeof b) == 0 && listen(front, 8) == 0);
    getsockname(srv, (struct sockaddr *)&a, &len);
    getsockname(front, (struct sockaddr *)&b, &len);
    CHECK(loop_new(&l) == 0);
    struct proxy *p = proxy_tcp(l, front, to_listener, &a);
    pthread_create(&t, NULL, proxy_thread, l);
    pid_t pid = fork();
    if (pid == 0) {
        int c = accept(srv, NULL, NULL);
        uint64_t sum = 0;
        static unsigned char buf[65536];
        for (ssize_t k; (k = read(c, buf, sizeof buf)) > 0;)
            for (ssize_t i = 0; i < k; i++)
                sum += buf[i];
        usleep(20000);
        (void)!write(c, &sum, sizeof sum);
        _exit(0);
    }
    close(srv);
    int c = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(c, (struct sockaddr *)&b, sizeof b) == 0);
    static unsigned char buf[65536];
    uint64_t sum = 0, got = 0;
    for (int i = 0; i < 512; i++) {
        memset(buf, i & 255, sizeof buf);
        sum += (uint64_t)(i & 255) * sizeof buf;
        CHECK(fd_write_all(c, buf, sizeof buf) == 0);
    }
    shutdown(c, SHUT_WR);
    CHECK(fd_read_full(c, &got, sizeof got) == sizeof got);
    CHECK(got == sum);
    CHECK(read(c, buf, 1) == 0);
    close(c);
    waitpid(pid, NULL, 0);
    c = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(c, (struct sockaddr *)&b, sizeof b) == 0);
    CHECK(read(c, buf, 1) < 0 && errno == ECONNRESET);
    close(c);
    loop_post(l, stop, p);
    pthread_join(t, NULL);
    loop_free(l);
}

static int host_listener(uint16_t *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return -1;
    *port = ntohs(a.sin_port);
    return fd;
}

/* The host's loopback is closed but for what was asked for; the host reaches what is published. */
TEST(host_side) {
    char out[8192], script[200];
    struct err e = {0};
    struct box_net *n;
    uint16_t port = 0, closed = 0, there = 0;
    if (!box_ready() || !(n = net()))
        return;
    int open_fd = host_listener(&port), closed_fd = host_listener(&closed);
    struct box *job = make(n, false, "job", NULL), *web = make(n, true, "c1", "web");
    if (job && web && open_fd >= 0 && closed_fd >= 0) {
        CHECK_INT(net_expose_host(n, port, true, &e), 0);
        for (int i = 0; i < 3; i++) {
            snprintf(script, sizeof script, "echo ping | nc -w 1 %s %u",
                     i == 1 ? "127.0.0.1" : net_gateway(n), port);
            pid_t pid = fork();
            if (pid == 0) {
                int c = accept(open_fd, NULL, NULL);
                char word[8];
                (void)!read(c, word, sizeof word);
                (void)!write(c, "pong\n", 5);
                _exit(0);
            }
            CHECK_INT(box_run(i == 2 ? web : job, NULL, script, out, sizeof out), 0);
            CHECK_STR(out, "pong\n");
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        snprintf(
            script, sizeof script,
            "for a in %s 127.0.0.1 10.0.2.2; do nc -w 1 $a %u </dev/null && echo in; done; true",
            net_gateway(n), closed);
        CHECK_INT(box_run(job, NULL, script, out, sizeof out), 0);
        CHECK(!strstr(out, "in\n"));
        struct box_proc *p = serve(web, "8000", "to-the-host");
        CHECK_INT(net_publish_host(n, "127.0.0.1", box_ip(web), 8000, &there, "tcp", &e), 0);
        struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_port = htons(there), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_INT(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
        ssize_t k = read(fd, out, sizeof out - 1);
        out[k > 0 ? k : 0] = 0;
        CHECK_STR(out, "to-the-host\n");
        close(fd);
        CHECK_INT(net_unpublish_host(n, there, "tcp"), 0);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) < 0);
        close(fd);
        box_proc_free(p);
    }
    fd_close(open_fd);
    fd_close(closed_fd);
    box_destroy(web);
    box_destroy(job);
    net_free(n);
}

TEST(two_jobs_same_port) {
    char out[8192];
    struct err e = {0};
    struct box_net *n[2] = {NULL, NULL};
    struct box *job[2], *svc[2];
    if (!box_ready())
        return;
    for (int i = 0; i < 2; i++) {
        uint16_t port = 5432;
        if (!(n[i] = net()))
            return;
        job[i] = make(n[i], false, "job", NULL);
        svc[i] = make(n[i], true, "c", "postgres");
        if (!job[i] || !svc[i])
            return;
        box_proc_free(serve(svc[i], "5432", i ? "second" : "first"));
        CHECK_INT(net_publish(n[i], box_ip(svc[i]), 5432, &port, "tcp", &e), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_INT(box_run(job[i], NULL,
                          "nc -w 3 localhost 5432 </dev/null; nc -w 3 postgres 5432 </dev/null",
                          out, sizeof out),
                  0);
        CHECK_STR(out, i ? "second\nsecond\n" : "first\nfirst\n");
        box_destroy(svc[i]);
        box_destroy(job[i]);
        net_free(n[i]);
    }
}
