/* slipway pull and push. */
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "cli/transfer.h"

static int split_platform(char *text, struct pull_options *p, struct err *e) {
    char *slash = text ? strchr(text, '/') : NULL;
    if (!text)
        return 0;
    if (!slash)
        return err_set(e, ERR_USER, -EINVAL, "--platform wants OS/ARCH, as in linux/amd64");
    *slash = 0;
    p->os = text;
    p->arch = slash + 1;
    if ((slash = strchr(slash + 1, '/'))) {
        *slash = 0;
        p->variant = slash + 1;
    }
    return 0;
}

int cmd_pull(int argc, char **argv);
int cmd_pull(int argc, char **argv) {
    const char *policy = "always", *platform = NULL;
    bool quiet = false, offline = false;
    const struct opt items[] = {
        {0, "policy", OPT_STR, &policy, "P", "always (default), missing or never"},
        {0, "platform", OPT_STR, &platform, "OS/ARCH", "another platform than this machine's"},
        {0, "offline", OPT_FLAG, &offline, NULL, "ask no registry"},
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "print only the image's id"},
    };
    struct opts o = {.usage = "pull [options] IMAGE…", .about = "Pulls images from their registries, or the mirrors of the configuration.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    struct cli_ctx c;
    struct transfer shown;
    struct image_progress progress = transfer_begin(&shown, quiet);
    _cleanup_free_ char *platform_text = xstrdup(platform);
    if (!n || (!streq(policy, "always") && !streq(policy, "missing") && !streq(policy, "never"))) {
        err_set(&e, ERR_USER, -EINVAL, n ? "--policy is always, missing or never" : "pull what? An image's name is missing");
        return cli_fail(&e);
    }
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "pull"});
    if (r >= 0)
        return r;
    struct pull_options p = c.pulls;
    p.policy = streq(policy, "always") ? PULL_ALWAYS : streq(policy, "never") ? PULL_NEVER : PULL_MISSING;
    p.progress = &progress;
    p.cancel = transfer_cancelled();
    c.registry.offline = c.registry.offline || offline;
    r = split_platform(platform_text, &p, &e);
    for (int i = 1; i <= n && r >= 0; i++) {
        _cleanup_image_ struct image *img = NULL;
        r = image_get(c.store, c.lease, argv[i], &p, &img, &e);
        transfer_end(&shown);
        if (r < 0)
            break;
        if (!quiet && img->standin)
            printf("%s (stand-in: %s)\n", img->id, img->standin_note ? img->standin_note : "");
        else
            printf("%s\n", img->id);
    }
    cli_close(&c);
    return r < 0 ? cli_fail(&e) : 0;
}

int cmd_push(int argc, char **argv);
int cmd_push(int argc, char **argv) {
    bool quiet = false, zstd = false;
    int64_t parallel = 4;
    const struct opt items[] = {
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "print only the digest"},
        {0, "zstd", OPT_FLAG, &zstd, NULL, "compress layers with zstd instead of gzip"},
        {0, "parallel", OPT_INT, &parallel, "N", "layers sent at the same time (4)"},
    };
    struct opts o = {.usage = "push [options] IMAGE", .about = "Sends an image to its registry, with the credentials of slipway login or docker login.",
                     .items = items, .n = ELEMENTS(items)};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    struct err e = {0};
    struct cli_ctx c;
    struct transfer shown;
    struct image_progress progress = transfer_begin(&shown, quiet);
    if (n != 1) {
        err_set(&e, ERR_USER, -EINVAL, "push wants the name of one image");
        return cli_fail(&e);
    }
    r = cli_begin(&c, &(struct cli_ctx_options){.what = "push"});
    if (r >= 0)
        return r;
    struct push_options p = {.conf = &c.registry, .progress = &progress, .cancel = transfer_cancelled(), .zstd = zstd,
                             .parallel = (unsigned)MAX((int64_t)1, MIN(parallel, (int64_t)16))};
    _cleanup_image_ struct image *img = NULL;
    char digest[DIGEST_LEN + 1];
    uint64_t sent = 0;
    r = image_find(c.store, c.lease, argv[1], &img, &e);
    if (r == 0)
        r = err_set(&e, ERR_NOTFOUND, -ENOENT, "no such image here: %s", argv[1]);
    if (r == 1)
        r = image_push(c.store, c.lease, img->id, argv[1], &p, digest, &sent, &e);
    transfer_end(&shown);
    cli_close(&c);
    if (r < 0)
        return cli_fail(&e);
    _cleanup_buf_ struct buf size = BUF_SMALL;
    buf_add_size(&size, sent);
    if (quiet)
        printf("%s\n", digest);
    else
        printf("%s: digest: %s, %s sent\n", argv[1], digest, buf_str(&size));
    return 0;
}
