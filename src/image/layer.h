#pragma once
/* Inside image/: a snapshot's tar as a stream, and the helper operations of layers. */
#include "base/compress.h"
#include "image/image.h"

/* Gives the tar of a snapshot to sink, on the calling thread, while a helper makes it. */
int layer_stream(struct store *s, const char *snap_id, sink_fn sink, void *arg, struct err *e);
