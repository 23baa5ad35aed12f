#pragma once
/* What pull, push and copy show of what is on its way, and their end by a signal. */
#include "image/image.h"

#include <pthread.h>

/* What is on its way, on one line of a terminal; without one a line for each blob that is through. */
struct transfer {
    pthread_mutex_t lock;
    bool tty, quiet;
    uint64_t drawn_ns;
    struct transfer_item {
        char id[20];
        const char *what;
        uint64_t done, total;
    } items[64];
    size_t n;
};
/* Also takes SIGINT and SIGTERM: the first is a request to end, the second ends. */
struct image_progress transfer_begin(struct transfer *s, bool quiet);
void transfer_end(struct transfer *s);
const volatile int *transfer_cancelled(void);
