#pragma once
/* Runner images: what a job on `ubuntu-24.04` and so on runs in. A Dockerfile that slipway ships
 * (share/runner/NAME), or one of the user's (runner-images in the configuration), built on first
 * use and kept. */
#include "image/image.h"

struct runner_image_options {
    const char *dir;            /* of the repository: what a ./Dockerfile in `map` is relative to */
    const struct strv *map;     /* "LABEL=IMAGE" or "LABEL=./Dockerfile" */
    const struct pull_options *pulls;
    const struct image_progress *progress;
    bool no_host_env;
    const volatile int *cancel;
};
/* Is there a runner image for this label ("ubuntu-latest", "ubuntu-22.04", one of `map`)? */
bool runner_image_known(const char *label, const struct strv *map);
/* Finds or builds it. *ret_note: what to say of it ("runner image ubuntu-24.04"), malloc. */
int runner_image_get(struct store *s, struct lease *l, const char *label, const struct runner_image_options *o,
                     struct image **ret, char **ret_note, struct err *e);
