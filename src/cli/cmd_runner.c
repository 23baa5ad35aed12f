/* slipway runner: the images that jobs on ubuntu-* run in. */
#include "cli/build_ui.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/loop.h"
#include "run/runner_image.h"

static const char *const known[] = {"ubuntu-latest", "ubuntu-24.04", "ubuntu-22.04"};

static void progress(void *arg, const char *id, const char *what, uint64_t done, uint64_t total) {
    static char last[300];
    char line[300];
    snprintf(line, sizeof line, "%.120s: %.150s", id, what);
    if (streq(line, last))
        return;
    memcpy(last, line, sizeof last);
    fprintf(stderr, "%s\n", line);
}

static int list(struct cli_ctx *c) {
    printf("%-16s %-40s %s\n", "LABEL", "IMAGE", "SIZE");
    for (size_t i = 0; i < ELEMENTS(known); i++) {
        _cleanup_image_ struct image *img = NULL;
        _cleanup_buf_ struct buf size = BUF_SMALL;
        const char *name = i ? known[i] : known[1];
        _cleanup_free_ char *ref = xasprintf("localhost/slipway/runner:%s", name);
        const char *own = NULL;
        for (size_t k = 0; k < c->conf.runner_images.n; k++)
            if (startswith(c->conf.runner_images.v[k], known[i]) && c->conf.runner_images.v[k][strlen(known[i])] == '=')
                own = c->conf.runner_images.v[k] + strlen(known[i]) + 1;
        if (!own && image_find(c->store, NULL, ref, &img, NULL) > 0)
            buf_add_size(&size, img->size);
        printf("%-16s %-40s %s\n", known[i], own ? own : img ? ref : "not built yet", buf_str(&size));
    }
    for (size_t k = 0; k < c->conf.runner_images.n; k++) {
        const char *item = c->conf.runner_images.v[k], *eq = strchr(item, '=');
        bool shown = false;
        for (size_t i = 0; i < ELEMENTS(known); i++)
            shown |= eq && strlen(known[i]) == (size_t)(eq - item) && startswith(item, known[i]);
        if (eq && !shown)
            printf("%-16.*s %s\n", (int)(eq - item), item, eq + 1);
    }
    return 0;
}

static int build(struct cli_ctx *c, const char *label) {
    struct err e = {0};
    struct image_progress p = {progress, NULL};
    struct runner_image_options o = {.dir = ".", .map = &c->conf.runner_images, .pulls = &c->pulls, .progress = &p, .no_host_env = c->conf.no_host_env};
    _cleanup_image_ struct image *img = NULL;
    _cleanup_free_ char *note = NULL;
    uint64_t start = now_mono();
    if (runner_image_get(c->store, c->lease, label, &o, &img, &note, &e) < 0)
        return cli_fail(&e);
    _cleanup_buf_ struct buf t = BUF_SMALL;
    buf_add_duration(&t, now_mono() - start);
    printf("%s: %s (%.19s, %s)\n", label, note, img->id, buf_str(&t));
    return 0;
}

static int drop(struct cli_ctx *c, const char *label) {
    struct err e = {0};
    _cleanup_strv_ struct strv said = {0};
    const char *name = streq(label, known[0]) ? known[1] : label;
    _cleanup_free_ char *ref = xasprintf("localhost/slipway/runner:%s", name);
    if (rec_del(c->store, "runner", name) < 0 || image_remove(c->store, ref, true, &said, &e) < 0)
        return cli_fail(&e);
    for (size_t i = 0; i < said.n; i++)
        puts(said.v[i]);
    return 0;
}

int cmd_runner(int argc, char **argv);
int cmd_runner(int argc, char **argv) {
    int n;
    const struct opts o = {.usage = "runner ls | build [LABEL] | rm LABEL",
                           .about = "The images that jobs on ubuntu-* run in: built from a Dockerfile that slipway ships, on first use."};
    int code = opts_begin(&o, argc, argv, &n);
    if (code >= 0)
        return code;
    const char *what = n > 0 ? argv[1] : "ls";
    bool ok = (streq(what, "ls") && n <= 1) || (streq(what, "build") && n <= 2) || (streq(what, "rm") && n == 2);
    if (!ok) {
        struct err e = {0};
        err_set(&e, ERR_USER, -EINVAL, "usage: slipway runner ls | build [LABEL] | rm LABEL");
        return cli_fail(&e);
    }
    struct cli_ctx c;
    code = cli_begin(&c, &(struct cli_ctx_options){.repo_dir = ".", .what = "runner"});
    if (code >= 0)
        return code;
    if (streq(what, "ls"))
        code = list(&c);
    else if (streq(what, "build"))
        code = build(&c, n > 1 ? argv[2] : "ubuntu-latest");
    else
        code = drop(&c, argv[2]);
    cli_close(&c);
    return code;
}
