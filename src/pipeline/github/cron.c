#include "pipeline/github/cron.h"

#include "core/str.h"

static const struct field {
    unsigned min, max;
    const char *names; /* three letters each, from min */
} fields[5] = {{0, 59, NULL},
               {0, 23, NULL},
               {1, 31, NULL},
               {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
               {0, 6, "sunmontuewedthufrisat"}};

static bool number(struct sv s, const struct field *f, uint64_t *ret) {
    if (f->names && s.n == 3) {
        for (unsigned i = f->min; i <= f->max; i++)
            if (strncasecmp(s.p, f->names + 3 * (i - f->min), 3) == 0) {
                *ret = i;
                return true;
            }
    }
    return s.n && s.n <= 2 && sv_u64(s, 99, ret) == 0 && *ret >= f->min && *ret <= f->max;
}

/* "*", "5", "1-5", with a step "/2". */
static bool part(struct sv s, const struct field *f) {
    ssize_t slash = sv_chr(s, '/'), dash;
    uint64_t step, from, to;
    if (slash >= 0) {
        struct sv by = sv_sub(s, (size_t)slash + 1, s.n);
        if (by.n > 3 || sv_u64(by, 999, &step) < 0 || step == 0)
            return false;
        s = sv_sub(s, 0, (size_t)slash);
    }
    if (sv_eqs(s, "*"))
        return true;
    dash = sv_chr(s, '-');
    if (dash < 0)
        return number(s, f, &from);
    return number(sv_sub(s, 0, (size_t)dash), f, &from) &&
           number(sv_sub(s, (size_t)dash + 1, s.n), f, &to) && from <= to;
}

bool cron_valid(const char *expr) {
    struct sv rest = sv_trim(sv_from(expr)), word;
    size_t n = 0;
    while (sv_split(&rest, ' ', &word)) {
        struct sv one;
        if (word.n == 0)
            continue;
        if (n == ELEMENTS(fields))
            return false;
        while (sv_split(&word, ',', &one))
            if (!part(one, &fields[n]))
                return false;
        n++;
    }
    return n == ELEMENTS(fields);
}

/* Sets the minutes that a part like "1-5/2" stands for. */
static void mark(struct sv s, bool *minutes) {
    uint64_t step = 1, from = 0, to = 59;
    ssize_t slash = sv_chr(s, '/');
    if (slash >= 0) {
        sv_u64(sv_sub(s, (size_t)slash + 1, s.n), 999, &step);
        s = sv_sub(s, 0, (size_t)slash);
    }
    ssize_t dash = sv_chr(s, '-');
    if (dash >= 0) {
        sv_u64(sv_sub(s, 0, (size_t)dash), 59, &from);
        sv_u64(sv_sub(s, (size_t)dash + 1, s.n), 59, &to);
    } else if (!sv_eqs(s, "*")) {
        sv_u64(s, 59, &from);
        to = slash >= 0 ? 59 : from;
    }
    for (uint64_t i = from; i <= to; i += step)
        minutes[i] = true;
}

unsigned cron_shortest(const char *expr) {
    struct sv rest = sv_trim(sv_from(expr)), field, one;
    bool minutes[60] = {false};
    sv_split(&rest, ' ', &field);
    while (sv_split(&field, ',', &one))
        mark(one, minutes);
    unsigned shortest = 60, last = 0;
    bool any = false;
    for (unsigned i = 0; i < 60; i++) {
        if (!minutes[i])
            continue;
        if (any && i - last < shortest)
            shortest = i - last;
        any = true;
        last = i;
    }
    return shortest;
}
