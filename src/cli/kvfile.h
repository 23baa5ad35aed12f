#pragma once
/* Files of K=V lines (.secrets, .vars, .env, .input) as act and docker read them: '#' comments, blank
 * lines, "export " before a key, values in single or double quotes (which may span lines; \n in
 * double quotes), and YAML mappings where the file ends in .yml or .yaml. */
#include "core/err.h"
#include "core/str.h"

/* Later keys replace earlier ones in *ret. `must` false: an absent file is fine. */
int kv_file(const char *path, bool must, struct strv *ret, struct err *e);
/* One "K=V" argument, or "K" whose value comes from the environment, or (ask) from the terminal
 * without echo. */
int kv_arg(const char *arg, bool ask, struct strv *ret, struct err *e);
