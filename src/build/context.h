#pragma once
/* A build context that comes as a tar archive (from a Docker client, or on stdin). */
#include "core/err.h"
#include "core/str.h"

/* Unpacks the archive (any codec that base/compress.h reads) into the folder dir, which is ours and
 * empty (or to be written over): every path is resolved inside it, owners are the caller's, devices and pipes are left out.
 * At most 64 GiB unpacked. */
int context_unpack(int fd, int dir, struct err *e);
/* Do these first bytes (512 are enough) belong to an archive? */
bool context_is_tar(struct sv head);
