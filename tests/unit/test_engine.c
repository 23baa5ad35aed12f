/* A job's engine comes and goes while its containers are being started, probed and ending: its end
 * waits for all of it. What it would touch afterwards is a use after free that the sanitizer sees. */
#include "box_fixture.h"

#include "docker/engine.h"

#include <pthread.h>

static struct err e;
static struct loop *loop;
static pthread_t loop_thread;

static void *serve(void *arg) {
    loop_run(arg);
    return NULL;
}
static void serve_end(struct loop *l, void *arg) { loop_stop(l, 0); }

static bool make_image(void) {
    struct image_config c = {.os = xstrdup("linux"), .architecture = xstrdup("amd64")};
    struct snap_info layer = {.key = "base"};
    _cleanup_strv_ struct strv snaps = {0};
    char id[DIGEST_LEN + 1];
    digest_of("a layer", 7, layer.diff_id);
    int r = snap_commit(store, lease, base_layer, &layer, &layer, &e);
    strv_add(&c.env, "PATH=/bin");
    strv_add(&c.cmd, "sleep");
    strv_add(&c.cmd, "1000");
    strv_add(&c.diff_ids, layer.diff_id);
    strv_add(&snaps, layer.id);
    if (r >= 0)
        r = image_add(store, &c, &snaps, id, &e);
    if (r >= 0)
        r = image_tag(store, id, "tiny:1", &e);
    image_config_done(&c);
    if (r < 0)
        fail_with(&e, "image");
    return r >= 0;
}

static bool ready(void) {
    static int state;
    if (!state) {
        state = 2;
        if (box_ready() && make_image() && loop_new(&loop) >= 0 && pthread_create(&loop_thread, NULL, serve, loop) == 0)
            state = 1;
    }
    return state == 1;
}

struct life {
    struct engine *g;
    const char *options;
    const char *const *cmd;
    char id[65];
    int r;
};

static void *start(void *arg) {
    struct life *l = arg;
    struct err why = {0};
    const struct engine_container_spec s = {.image = "tiny:1", .options = l->options, .cmd = l->cmd};
    l->r = engine_start(l->g, &s, l->id, &why);
    if (l->r < 0)
        fail_with(&why, "start");
    return NULL;
}

/* One engine's life: containers that run, that end by themselves and that are probed all the time. */
static void life(unsigned pause_us) {
    static const char *const quick[] = {"true", NULL};
    struct life c[] = {{.options = ""}, {.options = ""}, {.options = ""}, {.options = ""},
                       {.options = "--health-cmd true --health-interval 5ms --health-timeout 20ms"},
                       {.cmd = quick},
                       {.options = "--health-cmd 'sleep 9' --health-interval 1ms --health-timeout 4ms"}};
    pthread_t t[ELEMENTS(c)];
    struct engine *g = NULL;
    struct lease *l = NULL;
    const struct engine_options o = {.name = "t", .store = store, .loop = loop, .loop_elsewhere = true, .own_net = true};
    struct engine_options mine = o;
    CHECK_INT(lease_new(store, "job", &l, &e), 0);
    mine.lease = l;
    CHECK_INT(engine_new(&g, &mine, &e), 0);
    for (size_t i = 0; i < ELEMENTS(c); i++) {
        c[i].g = g;
        CHECK_INT(pthread_create(&t[i], NULL, start, &c[i]), 0);
    }
    for (size_t i = 0; i < ELEMENTS(c); i++) {
        pthread_join(t[i], NULL);
        CHECK_INT(c[i].r, 0);
    }
    usleep(pause_us);
    engine_free(g);
    lease_free(l);
}

TEST(an_engine_of_no_use) {
    if (!ready())
        return;
    for (int i = 0; i < 50; i++) { /* ends before the loop has seen it, too */
        struct engine *g = NULL;
        const struct engine_options o = {.name = "t", .store = store, .lease = lease, .loop = loop, .loop_elsewhere = true, .own_net = true};
        CHECK_INT(engine_new(&g, &o, &e), 0);
        engine_free(g);
    }
}

TEST(the_end_waits_for_everything) {
    if (!ready())
        return;
    for (unsigned i = 0; i < 12; i++)
        life(i * 1500);
    loop_post(loop, serve_end, NULL);
    pthread_join(loop_thread, NULL);
    loop_free(loop);
}
