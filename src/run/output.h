#pragma once
/* A job's output on its way from the pipe to the events: cut into lines, commands taken out,
 * secrets masked, whole lines given on. One per job; used by the job's thread only.
 *
 * The order matters: commands are read before masking (an output's value may hold a secret, and
 * add-mask must see it), everything else goes through the masker. Text without "::" and "##[" is
 * passed on in large pieces without looking at its lines. */
#include "core/mask.h"
#include "run/commands.h"

struct output;
struct output_ops {
    /* A command that was found; text before it has been given on already. Returns true when it was
     * consumed; false prints the line as it is. */
    bool (*command)(void *arg, const struct wcommand *c, struct sv line);
    /* Masked text: whole lines, each with its '\n' but perhaps the last before output_end. */
    void (*text)(void *arg, struct sv lines);
    void *arg;
};
struct output *output_new(struct masker *m, const struct output_ops *ops);
void output_free(struct output *o);
/* Reads what the descriptor has (at most one piece). Bytes read, 0 at the end of file, -EAGAIN. */
ssize_t output_read(struct output *o, int fd);
void output_end(struct output *o); /* a step is over: what is left of a line goes out */
/* Between these no command but ::token:: is looked at. NULL: off. */
void output_stop(struct output *o, const char *token);
