/* Values live in an arena and are never changed after they were built, so sub-values are shared
 * freely. An object of more than a few keys gets a hash table from its folded keys to positions;
 * the table is seeded per process, since keys come from outside. */
#include "expr/value.h"

#include "core/loop.h"
#include "expr/fold.h"

#include <math.h>

enum { INDEX_FROM = 12 };

const struct value val_null = {.kind = VAL_NULL};
const struct value val_true = {.kind = VAL_BOOL, .boolean = true};
const struct value val_false = {.kind = VAL_BOOL, .boolean = false};

const struct value *val_bool(bool b) {
    return b ? &val_true : &val_false;
}

const struct value *val_number(struct arena *a, double d) {
    struct value *v = ARENA_NEW(a, struct value);
    v->kind = VAL_NUMBER;
    v->number = d;
    return v;
}

const struct value *val_string(struct arena *a, struct sv s) {
    struct value *v = ARENA_NEW(a, struct value);
    v->kind = VAL_STRING;
    v->str = arena_sv(a, s);
    return v;
}

const struct value *val_str(struct arena *a, const char *s) {
    return s ? val_string(a, sv_from(s)) : &val_null;
}

struct value *val_array(struct arena *a) {
    struct value *v = ARENA_NEW(a, struct value);
    v->kind = VAL_ARRAY;
    return v;
}

struct value *val_object(struct arena *a) {
    struct value *v = ARENA_NEW(a, struct value);
    v->kind = VAL_OBJECT;
    return v;
}

/* Room for one more item (and key). Old arrays stay in the arena: at most as much again. */
static void grow(struct arena *a, struct value *v) {
    if (v->n < v->cap)
        return;
    size_t cap = v->cap ? v->cap * 2 : 4;
    const struct value **items = ARENA_ARRAY(a, const struct value *, cap);
    if (v->n)
        memcpy(items, v->items, v->n * sizeof(*items));
    v->items = items;
    if (v->kind == VAL_OBJECT) {
        struct sv *keys = ARENA_ARRAY(a, struct sv, cap);
        if (v->n)
            memcpy(keys, v->keys, v->n * sizeof(*keys));
        v->keys = keys;
    }
    v->cap = cap;
}

void val_push(struct arena *a, struct value *array, const struct value *v) {
    assert(array->kind == VAL_ARRAY);
    grow(a, array);
    array->items[array->n++] = v;
}

static uint64_t hash_seed(void) {
    static uint64_t seed;
    uint64_t s = __atomic_load_n(&seed, __ATOMIC_RELAXED);
    if (!s) {
        uint64_t fresh;
        random_bytes(&fresh, sizeof fresh);
        fresh |= 1;
        /* The first one wins: tables made by another thread must stay readable. */
        if (__atomic_compare_exchange_n(&seed, &s, fresh, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            s = fresh;
    }
    return s;
}

static void index_put(struct value *o, size_t pos) {
    size_t mask = o->index_cap - 1;
    size_t at = fold_hash(o->keys[pos], hash_seed()) & mask;
    while (o->index[at])
        at = (at + 1) & mask;
    o->index[at] = (uint32_t)pos + 1;
}

/* Position of key, or -1. */
static ssize_t find(const struct value *o, struct sv key) {
    if (!o->index) {
        for (size_t i = 0; i < o->n; i++)
            if (fold_eq(o->keys[i], key))
                return (ssize_t)i;
        return -1;
    }
    size_t mask = o->index_cap - 1;
    for (size_t at = fold_hash(key, hash_seed()) & mask; o->index[at]; at = (at + 1) & mask)
        if (fold_eq(o->keys[o->index[at] - 1], key))
            return (ssize_t)o->index[at] - 1;
    return -1;
}

static void append(struct arena *a, struct value *o, struct sv key, const struct value *v) {
    grow(a, o);
    o->keys[o->n] = key;
    o->items[o->n++] = v;
    if (o->n < INDEX_FROM)
        return;
    if (o->n * 2 > o->index_cap) {
        o->index_cap = o->index_cap ? o->index_cap * 2 : 64;
        o->index = ARENA_ARRAY(a, uint32_t, o->index_cap);
        for (size_t i = 0; i < o->n; i++)
            index_put(o, i);
    } else {
        index_put(o, o->n - 1);
    }
}

void val_set(struct arena *a, struct value *object, struct sv key, const struct value *v) {
    assert(object->kind == VAL_OBJECT);
    ssize_t at = find(object, key);
    if (at >= 0)
        object->items[at] = v;
    else
        append(a, object, arena_sv(a, key), v);
}

void val_sets(struct arena *a, struct value *object, const char *key, const struct value *v) {
    val_set(a, object, sv_from(key), v);
}

void val_set_str(struct arena *a, struct value *object, const char *key, const char *s) {
    val_sets(a, object, key, val_str(a, s));
}

const struct value *val_get(const struct value *object, struct sv key) {
    if (!object || object->kind != VAL_OBJECT)
        return NULL;
    ssize_t at = find(object, key);
    return at >= 0 ? object->items[at] : NULL;
}

const struct value *val_gets(const struct value *object, const char *key) {
    return val_get(object, sv_from(key));
}

const struct value *val_from_json(struct arena *a, const struct json *j) {
    if (!j)
        return &val_null;
    switch (j->kind) {
    case JSON_NULL:
        return &val_null;
    case JSON_BOOL:
        return val_bool(j->boolean);
    case JSON_NUMBER:
        return val_number(a, j->number);
    case JSON_STRING:
        return val_string(a, j->text);
    case JSON_ARRAY: {
        struct value *v = val_array(a);
        for (size_t i = 0; i < j->n; i++)
            val_push(a, v, val_from_json(a, j->items[i]));
        return v;
    }
    case JSON_OBJECT: {
        /* The same key again: the last one counts, at the first one's place. A key that differs
         * in case only: the first one counts. */
        struct value *v = val_object(a);
        for (size_t i = 0; i < j->n; i++) {
            ssize_t at = find(v, j->keys[i]);
            const struct value *item = val_from_json(a, j->items[i]);
            if (at < 0)
                append(a, v, arena_sv(a, j->keys[i]), item);
            else if (sv_eq(v->keys[at], j->keys[i]))
                v->items[at] = item;
        }
        return v;
    }
    }
    return &val_null;
}

const struct value *val_clone(struct arena *a, const struct value *v) {
    switch (v->kind) {
    case VAL_NULL:
        return &val_null;
    case VAL_BOOL:
        return val_bool(v->boolean);
    case VAL_NUMBER:
        return val_number(a, v->number);
    case VAL_STRING:
        return val_string(a, v->str);
    case VAL_ARRAY: {
        struct value *c = val_array(a);
        c->filtered = v->filtered;
        for (size_t i = 0; i < v->n; i++)
            val_push(a, c, val_clone(a, v->items[i]));
        return c;
    }
    case VAL_OBJECT: {
        struct value *c = val_object(a);
        for (size_t i = 0; i < v->n; i++)
            append(a, c, arena_sv(a, v->keys[i]), val_clone(a, v->items[i]));
        return c;
    }
    }
    return &val_null;
}

/* --- writing ---------------------------------------------------------------------------------- */

void val_format_number(double d, struct buf *b) {
    if (isnan(d)) {
        buf_adds(b, "NaN");
        return;
    }
    if (isinf(d)) {
        buf_adds(b, d < 0 ? "-Infinity" : "Infinity");
        return;
    }
    if (d == 0) { /* no minus sign */
        buf_addc(b, '0');
        return;
    }
    char text[40];
    int n = snprintf(text, sizeof text, "%.15g", d);
    for (int i = 0; i < n; i++)
        buf_addc(b, text[i] == 'e' ? 'E' : text[i]);
}

static void newline(struct buf *b, unsigned indent, unsigned level) {
    buf_addc(b, '\n');
    for (unsigned i = 0; i < indent * level; i++)
        buf_addc(b, ' ');
}

static void write_exact(double d, struct buf *b) {
    if (!isfinite(d)) {
        buf_adds(b, "null");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    buf_adds(b, text);
}

enum { EXACT = UINT32_MAX }; /* as the indent: none, and numbers as they are */

static void write_json(const struct value *v, struct buf *b, unsigned indent, unsigned level) {
    if (b->failed)
        return;
    bool exact = indent == EXACT;
    switch (v->kind) {
    case VAL_NULL:
        buf_adds(b, "null");
        return;
    case VAL_BOOL:
        buf_adds(b, v->boolean ? "true" : "false");
        return;
    case VAL_NUMBER:
        if (exact)
            write_exact(v->number, b);
        else
            val_format_number(v->number, b);
        return;
    case VAL_STRING:
        json_escape(b, v->str);
        return;
    case VAL_ARRAY:
    case VAL_OBJECT:
        break;
    }
    bool lines = indent && !exact;
    bool object = v->kind == VAL_OBJECT;
    buf_addc(b, object ? '{' : '[');
    for (size_t i = 0; i < v->n; i++) {
        if (i)
            buf_addc(b, ',');
        if (lines)
            newline(b, indent, level + 1);
        if (object) {
            json_escape(b, v->keys[i]);
            buf_adds(b, lines ? ": " : ":");
        }
        write_json(v->items[i], b, indent, level + 1);
    }
    if (lines && v->n)
        newline(b, indent, level);
    buf_addc(b, object ? '}' : ']');
}

void val_to_json(const struct value *v, struct buf *b, unsigned indent) {
    write_json(v, b, indent, 0);
}

void val_to_json_exact(const struct value *v, struct buf *b) {
    write_json(v, b, EXACT, 0);
}

/* --- coercions -------------------------------------------------------------------------------- */

const char *val_kind_name(enum val_kind k) {
    static const char *const names[] = {"Null", "Boolean", "Number", "String", "Array", "Object"};
    return names[k];
}

bool val_truthy(const struct value *v) {
    switch (v->kind) {
    case VAL_NULL:
        return false;
    case VAL_BOOL:
        return v->boolean;
    case VAL_NUMBER:
        return v->number != 0 && !isnan(v->number);
    case VAL_STRING:
        return v->str.n > 0;
    case VAL_ARRAY:
    case VAL_OBJECT:
        return true;
    }
    return false;
}

static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000 || c == 0xfeff;
}

static struct sv trim(struct sv s) {
    const char *p = s.p, *end = s.p + s.n, *first = NULL, *last = s.p;
    while (p < end) {
        const char *start = p;
        if (is_space(utf8_next(&p, end)))
            continue;
        if (!first)
            first = start;
        last = p;
    }
    return first ? sv_n(first, (size_t)(last - first)) : sv_n(s.p, 0);
}

static size_t digits(struct sv s, size_t i) {
    size_t from = i;
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
        i++;
    return i - from;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point. */
static bool is_decimal(struct sv s) {
    size_t i = s.n && (s.p[0] == '+' || s.p[0] == '-');
    size_t whole = digits(s, i), part = 0;
    i += whole;
    if (i < s.n && s.p[i] == '.') {
        part = digits(s, i + 1);
        i += 1 + part;
    }
    if (!whole && !part)
        return false;
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        size_t n = digits(s, i);
        if (!n)
            return false;
        i += n;
    }
    return i == s.n;
}

/* 0x and 0o numbers have 32 bits and wrap to negative ones, as in the runner. */
static double parse_radix(struct sv s, unsigned bits) {
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 99;
        if (d >= 1u << bits)
            return NAN;
        v = v << bits | d;
        if (v > UINT32_MAX)
            return NAN;
    }
    return (int32_t)(uint32_t)v;
}

double val_parse_number(struct sv text) {
    struct sv s = trim(text);
    if (s.n == 0)
        return 0;
    if (sv_eqs(s, "Infinity") || sv_eqs(s, "+Infinity"))
        return INFINITY;
    if (sv_eqs(s, "-Infinity"))
        return -INFINITY;
    if (s.n > 2 && s.p[0] == '0' && (s.p[1] == 'x' || s.p[1] == 'o'))
        return parse_radix(sv_sub(s, 2, s.n), s.p[1] == 'x' ? 4 : 3);
    if (!is_decimal(s))
        return NAN;
    char small[64];
    if (s.n < sizeof small) {
        memcpy(small, s.p, s.n);
        small[s.n] = 0;
        return strtod(small, NULL);
    }
    _cleanup_free_ char *copy = sv_dup(s);
    return strtod(copy, NULL);
}

double val_to_number(const struct value *v) {
    switch (v->kind) {
    case VAL_NULL:
        return 0;
    case VAL_BOOL:
        return v->boolean;
    case VAL_NUMBER:
        return v->number;
    case VAL_STRING:
        return val_parse_number(v->str);
    case VAL_ARRAY:
    case VAL_OBJECT:
        return NAN;
    }
    return NAN;
}

struct sv val_to_string(struct arena *a, const struct value *v) {
    switch (v->kind) {
    case VAL_NULL:
        return SV("");
    case VAL_BOOL:
        return v->boolean ? SV("true") : SV("false");
    case VAL_NUMBER: {
        _cleanup_buf_ struct buf b = BUF_SMALL;
        val_format_number(v->number, &b);
        return arena_sv(a, buf_sv(&b));
    }
    case VAL_STRING:
        return v->str;
    case VAL_ARRAY:
        return SV("Array");
    case VAL_OBJECT:
        return SV("Object");
    }
    return SV("");
}

/* --- comparing -------------------------------------------------------------------------------- */

/* JavaScript's abstract comparison, except that arrays and objects are never converted: the same
 * kind compares as it is; else null, booleans and strings become numbers; an array or object
 * compares with nothing but itself. Returns the kind to compare as, or -1. */
static int common_kind(const struct value *a, const struct value *b, double *x, double *y) {
    if (a->kind == b->kind && a->kind != VAL_NUMBER)
        return (int)a->kind;
    if (a->kind >= VAL_ARRAY || b->kind >= VAL_ARRAY)
        return -1;
    *x = val_to_number(a);
    *y = val_to_number(b);
    return VAL_NUMBER;
}

bool val_equal(const struct value *a, const struct value *b) {
    double x = 0, y = 0;
    switch (common_kind(a, b, &x, &y)) {
    case VAL_NULL:
        return true;
    case VAL_BOOL:
        return a->boolean == b->boolean;
    case VAL_NUMBER:
        return x == y;
    case VAL_STRING:
        return fold_eq(a->str, b->str);
    case VAL_ARRAY:
    case VAL_OBJECT:
        return a == b;
    default:
        return false;
    }
}

bool val_less(const struct value *a, const struct value *b) {
    double x = 0, y = 0;
    switch (common_kind(a, b, &x, &y)) {
    case VAL_BOOL:
        return !a->boolean && b->boolean;
    case VAL_NUMBER:
        return x < y;
    case VAL_STRING:
        return fold_cmp(a->str, b->str) < 0;
    default:
        return false;
    }
}
