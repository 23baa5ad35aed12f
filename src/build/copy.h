#pragma once
/* COPY, ADD and WORKDIR: files put into a new layer by a helper inside the store's namespace. */
#include "store/store.h"

struct copy_inline { /* a heredoc */
    const char *name;
    struct sv data;
};
struct copy_spec {
    const char *const *layers; /* what lies below, top first (box_spec's form) */
    size_t n_layers;
    char upper[33];            /* a snap_begin id */
    /* Where sources come from: a tree snapshot, or a stack of layers, or neither. */
    const char *src_tree;
    const char *const *src_layers;
    size_t n_src_layers;
    const struct copy_inline *inlines;
    size_t n_inlines;
    const char *const *sources; /* NULL-terminated, wildcards allowed */
    const char *const *exclude; /* NULL-terminated or NULL */
    const char *dest;           /* absolute; a trailing slash means a folder. NULL: none */
    const char *mkdir;          /* WORKDIR: make this folder instead */
    const char *chown, *chmod;  /* as written, or NULL */
    bool keep_owner;            /* without chown: owners as in the source, else 0:0 */
    bool unpack;                /* ADD: archives are unpacked */
    bool parents;               /* --parents */
    int64_t mtime;              /* seconds: time of heredoc files and of WORKDIR's folder */
};
struct copy_result {
    uint64_t files, bytes;
    bool empty; /* nothing changed: the layer has no entry */
};
int copy_run(struct store *s, const struct copy_spec *c, struct copy_result *ret, struct err *e);

/* What would be copied: one entry for each file and folder, sorted by name. */
struct copy_entry {
    char type; /* 'd', 'f', 'l', 'p' */
    uint32_t mode, uid, gid;
    uint64_t size;
    const char *name; /* "SOURCE NUMBER/name at the destination" */
    const char *src;  /* in the source's root */
    const char *link;
    char digest[DIGEST_LEN + 1]; /* of a file */
};
struct copy_list {
    struct buf text;
    struct copy_entry *items;
    size_t n, cap;
};
/* Digests of a tree's files come from its index. */
int copy_list(struct store *s, const struct copy_spec *c, struct copy_list *ret, struct err *e);
void copy_list_done(struct copy_list *l);
#define _cleanup_copy_list_ _cleanup_(copy_list_done)

/* Symbolic ("u+x,go-w", "a=rX") or octal. -EINVAL. */
int chmod_parse(const char *text, uint32_t mode, bool is_dir, uint32_t *ret);

/* Helper operations "build-copy" and "build-list" (cli/ns_ops.c); both with a mount namespace of
 * their own. fd 3: the specification as JSON. */
int ns_build_copy(int argc, char **argv);
int ns_build_list(int argc, char **argv);
