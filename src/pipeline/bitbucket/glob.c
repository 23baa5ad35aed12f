/* Bitbucket's globs. Alternatives in braces are written out first (bounded); what is left is
 * matched with one remembered star of each kind, so no pattern takes more than the square of the
 * text's length. */
#include "pipeline/plan.h"

enum { MAX_ALTERNATIVES = 256 };

/* `*` is retried within the folder, `**` anywhere. */
static bool match(const char *p, const char *t) {
    const char *star_p = NULL, *star_t = NULL, *all_p = NULL, *all_t = NULL;
    for (;;) {
        if (p[0] == '*' && p[1] == '*') {
            p += 2;
            while (*p == '*')
                p++;
            if (*p == '/') { /* no folder is a folder too */
                if (match(p + 1, t))
                    return true;
            }
            all_p = p;
            all_t = t;
            star_p = NULL;
            continue;
        }
        if (*p == '*') {
            star_p = ++p;
            star_t = t;
            continue;
        }
        if (*t && (*p == *t || (*p == '?' && *t != '/') || (*p == '\\' && p[1] == *t))) {
            p += *p == '\\' && *t != '\\' ? 2 : 1;
            t++;
            continue;
        }
        if (!*t && !*p)
            return true;
        if (star_p && *star_t && *star_t != '/') {
            p = star_p;
            t = ++star_t;
            continue;
        }
        if (all_p && *all_t) {
            star_p = NULL;
            p = all_p;
            t = ++all_t;
            continue;
        }
        return false;
    }
}

static bool expand(const char *pattern, const char *text, unsigned *budget) {
    const char *open = strchr(pattern, '{'), *close = open;
    unsigned depth = 0;
    if ((*budget)-- == 0)
        return false;
    for (; close && *close; close++) {
        depth += *close == '{';
        if (*close == '}' && --depth == 0)
            break;
    }
    if (!close || !*close)
        return match(pattern, text);
    const char *from = open + 1;
    for (const char *c = from; c <= close; c++) {
        depth += *c == '{';
        if (c != close && *c == '}')
            depth--;
        if ((*c != ',' || depth) && c != close)
            continue;
        _cleanup_free_ char *one = xasprintf("%.*s%.*s%s", (int)(open - pattern), pattern,
                                             (int)(c - from), from, close + 1);
        if (expand(one, text, budget))
            return true;
        from = c + 1;
        if (!*budget)
            break;
    }
    return false;
}

bool bitbucket_glob(const char *pattern, const char *text) {
    unsigned budget = MAX_ALTERNATIVES;
    if (strlen(pattern) > 1024)
        return false;
    return expand(pattern, text, &budget);
}
