#pragma once
/* A built image as one file system. */
#include "base/compress.h"
#include "store/store.h"

/* The tar of all layers together (owners, modes, times, links as in the image; no whiteouts). */
int build_export_tar(struct store *s, struct lease *l, const char *image_id, sink_fn sink, void *arg, struct err *e);
