#include "cli/term.h"

#include <sys/ioctl.h>

bool term_is_tty(int fd) {
    const char *t = getenv("TERM");
    return isatty(fd) && !(t && streq(t, "dumb"));
}
bool term_colour(int fd) {
    const char *no = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE");
    if (no && *no)
        return false;
    return (force && *force && !streq(force, "0")) || term_is_tty(fd);
}
unsigned term_width(int fd) {
    struct winsize w;
    const char *c = getenv("COLUMNS");
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col)
        return w.ws_col;
    return c && atoi(c) > 0 ? (unsigned)atoi(c) : 80;
}
int cli_fail(const struct err *e) {
    fflush(stdout);
    err_print(stderr, e, term_colour(2));
    return err_exit_code(e->kind);
}
void cli_diags(struct diags *d, const char *source, size_t n) {
    fflush(stdout);
    diags_sort(d);
    for (size_t i = 0; i < d->n; i++)
        diag_print(stderr, &d->items[i], source, n, term_colour(2));
    if (d->errors + d->warnings > 1 || d->dropped)
        fprintf(stderr, "%zu error%s, %zu warning%s\n", d->errors, d->errors == 1 ? "" : "s",
                d->warnings, d->warnings == 1 ? "" : "s");
}
