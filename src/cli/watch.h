#pragma once
/* slipway run --watch: one run after another, each a process of its own (this program again, with
 * the same options): when files of the work tree change, the run under way is cancelled and the
 * next one starts, with the changed paths for path filters. Ends with Ctrl-C. */
int watch_loop(const char *dir, int argc, char **argv);
