#pragma once
/* The keeper of one command of a job that runs on the host (`slipway __host-step`): see host_step.c
 * for how it works. Descriptors: 3 a SOCK_SEQPACKET pair with slipway, 4 the command's text
 * (host_step_text), 0 to 2 and the working directory are the command's. */
#include "core/str.h"

#include <stdint.h>

struct host_step_signal { int32_t signo, group; };  /* slipway -> keeper; group: the whole session */
struct host_step_end { int32_t code, error; };      /* keeper -> slipway; error: why it could not start */

/* argv and envp as descriptor 4 holds them. */
void host_step_text(struct buf *b, const char *const *argv, const char *const *envp);
int host_step_main(void);
