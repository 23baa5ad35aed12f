#pragma once
/* What the parts of `slipway image` share. */
#include "cli/context.h"
#include "cli/opts.h"
#include "cli/term.h"

/* Options, number of names (max < 0: any), context. >= 0: the exit code; -1: go on. */
int image_cmd_begin(const struct opts *o, int argc, char **argv, int min, int max, struct cli_ctx *c, int *ret_n);
int image_cmd_end(struct cli_ctx *c, int r, const struct err *e); /* the exit code */
int image_cmd_find(struct cli_ctx *c, const char *name, struct image **ret, struct err *e);
/* Opens what a command writes: path (under another name until image_cmd_output_done), or the standard
 * output, which must not be a terminal. fd or negative. */
struct image_output { const char *path; char *tmp; int fd; };
int image_cmd_output(struct image_output *o, const char *path, struct err *e);
int image_cmd_output_done(struct image_output *o, int r, struct err *e);

int image_inspect(int argc, char **argv); /* image_show.c */
int image_history(int argc, char **argv);
int image_diff(int argc, char **argv); /* image_diff.c */
int image_save_cmd(int argc, char **argv); /* image_move.c */
int image_load_cmd(int argc, char **argv);
int image_export_cmd(int argc, char **argv);
int image_import_cmd(int argc, char **argv);
int image_mount_cmd(int argc, char **argv);
int image_copy_cmd(int argc, char **argv);
