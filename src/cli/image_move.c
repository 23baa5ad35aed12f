/* slipway image save, load, export, import, mount, copy. */
#include "cli/cmd_image.h"

#include "cli/transfer.h"
#include "core/fs.h"
#include "image/manifest.h"

#include <fcntl.h>

int image_save_cmd(int argc, char **argv) {
    const char *path = NULL, *format = "docker";
    bool oci = false;
    const struct opt items[] = {
        {'o', "output", OPT_STR, &path, "PATH", "instead of the standard output; with a / at its end an OCI layout folder"},
        {0, "format", OPT_STR, &format, "F", "docker (default; OCI programs read it too) or oci"},
        {0, "oci", OPT_FLAG, &oci, NULL, "as --format oci: compressed layers only"},
    };
    const struct opts o = {"image save [options] NAME…", "Writes images to an archive that docker load, podman and skopeo read.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct image_output out;
    int n, k = image_cmd_begin(&o, argc, argv, 1, -1, &c, &n), r;
    if (k >= 0)
        return k;
    const char *const *names = (const char *const *)(argv + 1);
    bool folder = path && strlen(path) > 1 && path[strlen(path) - 1] == '/';
    if (!streq(format, "docker") && !streq(format, "oci")) {
        r = err_set(&e, ERR_USER, -EINVAL, "--format is docker or oci, not \"%s\"", format);
    } else if (folder) {
        r = image_save_layout(c.store, c.lease, names, (size_t)n, path, &e);
    } else {
        r = image_cmd_output(&out, path, &e);
        if (r >= 0)
            r = image_cmd_output_done(&out, image_save(c.store, c.lease, names, (size_t)n, oci || streq(format, "oci"), out.fd, &e), &e);
    }
    return image_cmd_end(&c, r, &e);
}

int image_load_cmd(int argc, char **argv) {
    const char *path = NULL;
    bool quiet = false;
    const struct opt items[] = {
        {'i', "input", OPT_STR, &path, "PATH", "instead of the standard input; an archive or an OCI layout folder"},
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "do not print names"},
    };
    const struct opts o = {"image load [options]", "Reads images from an archive of docker save, podman save or an OCI layout.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct strv names = {0};
    struct stat st;
    if (argc < 2 && isatty(0)) {
        err_set(&e, ERR_USER, -EINVAL, "image load reads an archive from -i PATH or the standard input");
        return cli_fail(&e);
    }
    int n, k = image_cmd_begin(&o, argc, argv, 0, 0, &c, &n), fd = 0, r = 0;
    if (k >= 0)
        return k;
    if (path && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        r = err_set(&e, ERR_USER, -errno, "open %s: %s", path, strerror(errno));
    else if (path && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        r = image_load_layout(c.store, c.lease, path, &names, &e);
    else
        r = image_load(c.store, c.lease, fd, &names, &e);
    for (size_t i = 0; i < names.n && r == 0 && !quiet; i++)
        printf("Loaded: %s\n", names.v[i]);
    strv_done(&names);
    if (path)
        fd_close(fd);
    return image_cmd_end(&c, r, &e);
}

int image_export_cmd(int argc, char **argv) {
    const char *path = NULL;
    const struct opt items[] = {{'o', "output", OPT_STR, &path, "FILE", "instead of the standard output"}};
    const struct opts o = {"image export [options] NAME", "Writes an image's files as one tar, without layers and configuration.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    _cleanup_image_ struct image *i = NULL;
    struct image_output out;
    int n, k = image_cmd_begin(&o, argc, argv, 1, 1, &c, &n);
    if (k >= 0)
        return k;
    int r = image_cmd_find(&c, argv[1], &i, &e);
    if (r == 0)
        r = image_cmd_output(&out, path, &e);
    if (r >= 0)
        r = image_cmd_output_done(&out, image_flatten(c.store, i, out.fd, &e), &e);
    return image_cmd_end(&c, r, &e);
}

int image_import_cmd(int argc, char **argv) {
    const char *message = "imported", *user = NULL, *workdir = NULL, *cmd = NULL, *entrypoint = NULL, *platform = NULL;
    struct image_config conf = {0};
    const struct opt items[] = {
        {'m', "message", OPT_STR, &message, "TEXT", "for the history"},
        {'e', "env", OPT_LIST, &conf.env, "NAME=VALUE", "a variable of its environment"},
        {'l', "label", OPT_LIST, &conf.labels, "KEY=VALUE", "a label"},
        {'u', "user", OPT_STR, &user, "USER", "who runs its command"},
        {'w', "workdir", OPT_STR, &workdir, "PATH", "where it runs"},
        {0, "cmd", OPT_STR, &cmd, "COMMAND", "its command, for a shell"},
        {0, "entrypoint", OPT_STR, &entrypoint, "PROGRAM", "its entrypoint"},
        {0, "platform", OPT_STR, &platform, "OS/ARCH", "when it is not this machine's"},
    };
    const struct opts o = {"image import [options] FILE|- [NAME]", "Makes an image of one layer from a tar of files.", items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    char id[DIGEST_LEN + 1];
    int n, k = image_cmd_begin(&o, argc, argv, 1, 2, &c, &n), r = 0, fd = 0;
    if (k >= 0)
        return k;
    const char *slash = platform ? strchr(platform, '/') : NULL;
    conf.os = slash ? xstrndup(platform, (size_t)(slash - platform)) : xstrdup("linux");
    conf.architecture = xstrdup(slash ? slash + 1 : platform_arch());
    conf.user = xstrdup(user);
    conf.workdir = xstrdup(workdir);
    if (cmd) {
        strv_extend(&conf.cmd, (const char *const[]){"/bin/sh", "-c", cmd, NULL});
        conf.has_cmd = true;
    }
    if (entrypoint) {
        strv_add(&conf.entrypoint, entrypoint);
        conf.has_entrypoint = true;
    }
    if (!streq(argv[1], "-") && (fd = open(argv[1], O_RDONLY | O_CLOEXEC)) < 0)
        r = err_set(&e, ERR_USER, -errno, "open %s: %s", argv[1], strerror(errno));
    if (r == 0)
        r = image_import(c.store, c.lease, fd, &conf, message, id, &e);
    if (r == 0 && n == 2)
        r = image_tag(c.store, id, argv[2], &e);
    if (r == 0)
        puts(id);
    if (fd > 0)
        close(fd);
    image_config_done(&conf);
    return image_cmd_end(&c, r, &e);
}

int image_mount_cmd(int argc, char **argv) {
    const struct opts o = {.usage = "image mount NAME [COMMAND…]",
                           .about = "Runs a command (a shell) that sees an image's files, read-only, in $SLIPWAY_MOUNT, where it\n"
                                    "starts. Owners are as in the image. Nothing has to be unmounted.", .stop_at_first = true};
    struct cli_ctx c;
    struct err e = {0};
    _cleanup_image_ struct image *i = NULL;
    int n, k = image_cmd_begin(&o, argc, argv, 1, -1, &c, &n);
    if (k >= 0)
        return k;
    const char *shell = getenv("SHELL");
    char *dflt[] = {(char *)(shell && *shell ? shell : "/bin/sh"), NULL};
    int r = image_cmd_find(&c, argv[1], &i, &e);
    if (r == 0)
        r = image_view(c.store, i, n > 1 ? argv + 2 : dflt, &e);
    int code = r;
    r = image_cmd_end(&c, r, &e);
    return r ? r : code;
}

int image_copy_cmd(int argc, char **argv) {
    const char *platform = NULL;
    bool quiet = false, all = true;
    int64_t parallel = 4;
    const struct opt items[] = {
        {0, "platform", OPT_STR, &platform, "OS/ARCH", "only the image for this platform; else all"},
        {0, "referrers", OPT_FLAG, &all, NULL, "signatures and SBOMs too (default; --no-referrers leaves them)"},
        {0, "parallel", OPT_INT, &parallel, "N", "layers sent at the same time (4)"},
        {'q', "quiet", OPT_FLAG, &quiet, NULL, "print only the digest"},
    };
    const struct opts o = {"image copy [options] SOURCE DESTINATION",
                           "Copies an image from one registry (or repository) to another as it is, for all its platforms.",
                           items, ELEMENTS(items)};
    struct cli_ctx c;
    struct err e = {0};
    struct transfer shown;
    struct image_copied res;
    int n, k = image_cmd_begin(&o, argc, argv, 2, 2, &c, &n), r = 0;
    if (k >= 0)
        return k;
    struct image_progress progress = transfer_begin(&shown, quiet);
    _cleanup_free_ char *text = xstrdup(platform);
    struct image_copy_options co = {.conf = &c.registry, .progress = &progress, .cancel = transfer_cancelled(), .referrers = all,
                              .parallel = (unsigned)MAX((int64_t)1, MIN(parallel, (int64_t)16))};
    char *slash = text ? strchr(text, '/') : NULL, *second = slash ? strchr(slash + 1, '/') : NULL;
    if (text && !slash) {
        r = err_set(&e, ERR_USER, -EINVAL, "--platform wants OS/ARCH, as in linux/amd64");
    } else if (text) {
        *slash = 0;
        co.os = text;
        co.arch = slash + 1;
        if (second) {
            *second = 0;
            co.variant = second + 1;
        }
    }
    if (r == 0)
        r = image_copy(c.store, c.lease, argv[1], argv[2], &co, &res, &e);
    transfer_end(&shown);
    if (r == 0 && quiet) {
        puts(res.digest);
    } else if (r == 0) {
        _cleanup_buf_ struct buf size = BUF_SMALL;
        buf_add_size(&size, res.sent);
        printf("%s: digest: %s, %llu manifests, %s sent\n", argv[2], res.digest, (unsigned long long)res.manifests, buf_str(&size));
    }
    return image_cmd_end(&c, r, &e);
}
