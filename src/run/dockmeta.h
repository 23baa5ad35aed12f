#pragma once
/* docker/metadata-action's work: from an event to the tags, labels and annotations of an image. Source:
 * docker/metadata-action README and src/{tag,flavor,image,meta}.ts; templates are what it uses of
 * handlebars and moment. No job is needed, so tests can compare it with the published action. */
#include "expr/value.h"

struct dockmeta_in {
    const char *event, *ref, *sha;
    const struct value *payload;       /* github.event */
    int64_t now_ns, commit_ns;         /* wall clock */
    struct strv images, tags, flavor, labels, annotations; /* lines of the inputs, trimmed */
    const char *bake_target;
    const char *levels;                /* of annotations: "manifest", "manifest,index" */
    unsigned short_sha;                /* 7 */
};
struct dockmeta {
    const char *version;               /* "" when none was made */
    struct strv tags, names, labels, annotations; /* annotations with their levels */
    struct buf json, bake_tags, bake_labels, bake_annotations, bake;
    struct buf warnings;               /* lines */
};
/* Errors in the inputs are ERR_CONFIG in the action's words. */
int dockmeta_make(const struct dockmeta_in *in, struct arena *a, struct dockmeta *ret, struct err *e);
void dockmeta_done(struct dockmeta *m);
/* Lines of an input: what stands behind a leading '#' is a comment. */
void dockmeta_lines(const char *text, struct strv *out);
