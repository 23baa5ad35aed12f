/* Globs of event filters. A pattern is a row of atoms: a character, a set in brackets, `*` (any but
 * a slash), `**` (anything), each of the first two perhaps followed by `?` (at most once) or `+`
 * (at least once), which belong to the character before them and not to the path. `**` with its
 * slash stands for no folder as well. Matching keeps the set of atoms that can come next, so a
 * hostile pattern costs no more than its length for each character of the text. Source: "Filter
 * pattern cheat sheet" of GitHub's documentation. */
#include "pipeline/github/glob.h"

#include "pipeline/plan.h"

enum atom_kind { ATOM_CHAR, ATOM_SET, ATOM_STAR, ATOM_ALL, ATOM_FOLDERS /* "**" and its slash */ };
struct atom {
    enum atom_kind kind;
    bool optional, repeat;
    char c;
    const char *set;
    size_t set_n;
};

enum { MAX_ATOMS = 1024 };

static size_t read_atoms(const char *p, struct atom *out) {
    size_t n = 0;
    const char *start = p;
    while (*p && n < MAX_ATOMS) {
        struct atom a = {.kind = ATOM_CHAR};
        const char *close = *p == '[' ? strchr(p, ']') : NULL;
        if (p[0] == '*' && p[1] == '*') {
            bool at_slash = p == start || p[-1] == '/';
            p += 2;
            while (*p == '*')
                p++;
            a.kind = ATOM_ALL;
            if (at_slash && *p == '/') {
                a.kind = ATOM_FOLDERS;
                p++;
            }
        } else if (*p == '*') {
            a.kind = ATOM_STAR;
            p++;
        } else if (close && close > p + 1) {
            a.kind = ATOM_SET;
            a.set = p + 1;
            a.set_n = (size_t)(close - p - 1);
            p = close + 1;
        } else {
            if (*p == '\\' && p[1])
                p++;
            a.c = *p++;
        }
        if (a.kind <= ATOM_SET && (*p == '?' || *p == '+')) {
            a.optional = *p == '?';
            a.repeat = *p == '+';
            p++;
        }
        out[n++] = a;
    }
    return *p ? 0 : n;
}

static bool in_set(const struct atom *a, char c) {
    for (size_t i = 0; i < a->set_n; i++) {
        if (i + 2 < a->set_n && a->set[i + 1] == '-') {
            if (c >= a->set[i] && c <= a->set[i + 2])
                return true;
            i += 2;
        } else if (a->set[i] == c) {
            return true;
        }
    }
    return false;
}

/* Marks atom i as possible next, and those behind it that need not match anything. */
static void reach(const struct atom *atoms, size_t n, bool *next, size_t i) {
    while (!next[i]) {
        next[i] = true;
        if (i == n || !(atoms[i].kind >= ATOM_STAR || atoms[i].optional))
            return;
        i++;
    }
}

static bool match(const char *pattern, const char *text) {
    struct atom atoms[MAX_ATOMS];
    bool states[2][MAX_ATOMS + 1] = {{false}};
    size_t n = read_atoms(pattern, atoms);
    if (n == 0)
        return !*pattern && !*text;
    bool *now = states[0], *next = states[1];
    reach(atoms, n, now, 0);
    for (; *text; text++) {
        bool any = false;
        memset(next, 0, n + 1);
        for (size_t i = 0; i < n; i++) {
            if (!now[i])
                continue;
            const struct atom *a = &atoms[i];
            bool hit = a->kind == ATOM_CHAR   ? *text == a->c
                       : a->kind == ATOM_SET  ? in_set(a, *text)
                       : a->kind == ATOM_STAR ? *text != '/'
                                              : true;
            if (!hit)
                continue;
            any = true;
            if (a->kind == ATOM_FOLDERS) {
                /* Stays inside until a slash ends the last folder; i itself need not come again. */
                next[i] = true;
                if (*text == '/')
                    reach(atoms, n, next, i + 1);
            } else if (a->kind >= ATOM_STAR) {
                reach(atoms, n, next, i);
            } else {
                if (a->repeat)
                    next[i] = true;
                reach(atoms, n, next, i + 1);
            }
        }
        if (!any)
            return false;
        bool *swap = now;
        now = next;
        next = swap;
    }
    return now[n];
}

bool github_glob(const char *pattern, const char *text) {
    return *pattern == '!' ? !match(pattern + 1, text) : match(pattern, text);
}

bool github_patterns(const struct plan_filter *f, const char *text) {
    bool in = false;
    for (size_t i = 0; i < f->n; i++) {
        const char *p = f->items[i];
        if (*p == '!')
            in = in && !match(p + 1, text);
        else
            in = in || match(p, text);
    }
    return in;
}

/* --- what cannot be meant -------------------------------------------------------------------------- */

/* A set in brackets at *p; moves past it. */
static const char *set_problem(const char **p) {
    const char *s = *p + 1, *start = s;
    while (*s && *s != ']') {
        if (s[1] == '-' && s[2] && s[2] != ']') {
            if (s[0] > s[2])
                return "the range in [] runs backwards";
            s += 2;
        }
        s++;
    }
    if (!*s)
        return "a [ without its ]";
    if (s == start)
        return "an empty []";
    if (s == start + 1)
        return "a set of one character: write the character itself";
    *p = s;
    return NULL;
}

const char *glob_problem(const char *pattern, bool ref, size_t *ret_at) {
    const char *p = pattern + (*pattern == '!'), *why = NULL;
    bool special = true; /* what stands before cannot be repeated */
    size_t n = strlen(p);
    if (!n)
        why = "nothing follows the !";
    else if (ref && (p[0] == '/' || p[n - 1] == '/' || (p[n - 1] == '.' && p[n > 1 ? n - 2 : 0] != '\\')))
        why = p[0] == '/' ? "no branch or tag begins with a slash"
                          : "no branch or tag ends with a slash or a dot";
    else if (!ref && (p[0] == ' ' || p[n - 1] == ' '))
        why = "a path does not begin or end with a blank";
    else if (!ref && (startswith(p, "./") || startswith(p, "../") || streq(p, ".") || streq(p, "..")))
        why = "paths count from the repository's root: leave out ./ and ../";
    for (; *p && !why; p++) {
        bool was = special;
        special = false;
        switch (*p) {
        case '\\':
            if (p[1] && strchr("[]?+*\\!", p[1]))
                p++;
            else if (ref)
                why = "a backslash stands only before [ ] ? + * \\ and !";
            break;
        case '?':
        case '+':
            if (was)
                why = "? and + belong to the character before them";
            special = true;
            break;
        case '*':
            special = true;
            break;
        case '[':
            why = set_problem(&p);
            break;
        case ' ':
        case '~':
        case '^':
        case ':':
        case '\t':
            if (ref)
                why = "no branch or tag has this character";
            break;
        default:
            break;
        }
        if (why)
            break;
    }
    if (why)
        *ret_at = (size_t)(MIN(p, pattern + strlen(pattern)) - pattern);
    return why;
}
