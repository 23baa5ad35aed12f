#include "run/matrix.h"

static bool reserved(struct sv key) { return sv_ieqs(key, "include") || sv_ieqs(key, "exclude"); }

static bool scalar(const struct value *v) { return v->kind < VAL_ARRAY; }

/* Does `want` (of an exclude or include) agree with `have`? Objects need only agree in the keys
 * that `want` names. */
static bool agrees(struct arena *a, const struct value *have, const struct value *want) {
    if (scalar(have) && scalar(want))
        return sv_eq(val_to_string(a, have), val_to_string(a, want));
    if (have->kind != want->kind)
        return false;
    if (have->kind == VAL_ARRAY) {
        if (have->n != want->n)
            return false;
        for (size_t i = 0; i < have->n; i++)
            if (!agrees(a, have->items[i], want->items[i]))
                return false;
        return true;
    }
    for (size_t i = 0; i < want->n; i++) {
        const struct value *h = val_get(have, want->keys[i]);
        if (!h || !agrees(a, h, want->items[i]))
            return false;
    }
    return true;
}

static struct value *copy_leg(struct arena *a, const struct value *leg) {
    struct value *c = val_object(a);
    for (size_t i = 0; leg && i < leg->n; i++)
        val_set(a, c, leg->keys[i], leg->items[i]);
    return c;
}

static int list_of(const struct value *m, const char *key, const struct value **ret, struct err *e) {
    const struct value *v = val_gets(m, key);
    *ret = NULL;
    if (!v || v->kind == VAL_NULL)
        return 0;
    if (v->kind != VAL_ARRAY)
        return err_set(e, ERR_CONFIG, -EINVAL, "matrix: %s must be a list", key);
    for (size_t i = 0; i < v->n; i++)
        if (v->items[i]->kind != VAL_OBJECT)
            return err_set(e, ERR_CONFIG, -EINVAL, "matrix: each item of %s must be a mapping", key);
    *ret = v;
    return 0;
}

static int too_many(struct err *e) {
    return err_set(e, ERR_CONFIG, -E2BIG, "the matrix has more than %u legs", MATRIX_MAX);
}

/* The cross product: each vector multiplies what is there. The bound on the raw product is far
 * above the cap on legs, since exclude may bring it down. */
static int product(struct arena *a, const struct value *m, struct value ***ret, size_t *ret_n,
                   struct err *e) {
    struct value **legs = ARENA_ARRAY(a, struct value *, 1);
    size_t n = 0;
    for (size_t k = 0; k < m->n; k++) {
        if (reserved(m->keys[k]))
            continue;
        const struct value *vec = m->items[k];
        if (vec->kind != VAL_ARRAY)
            return err_set(e, ERR_CONFIG, -EINVAL, "matrix: \"" SV_FMT "\" must be a list",
                           SV_ARG(m->keys[k]));
        if (!vec->n)
            return err_set(e, ERR_CONFIG, -EINVAL,
                           "Matrix vector '" SV_FMT "' does not contain any values",
                           SV_ARG(m->keys[k]));
        size_t have = n ? n : 1;
        if (vec->n > 4096 / have)
            return too_many(e);
        struct value **next = ARENA_ARRAY(a, struct value *, have * vec->n);
        for (size_t i = 0; i < have; i++)
            for (size_t j = 0; j < vec->n; j++) {
                struct value *leg = copy_leg(a, n ? legs[i] : NULL);
                val_set(a, leg, m->keys[k], vec->items[j]);
                next[i * vec->n + j] = leg;
            }
        legs = next;
        n = have * vec->n;
    }
    *ret = legs;
    *ret_n = n;
    return 0;
}

static bool excluded(struct arena *a, const struct value *leg, const struct value *exclude) {
    for (size_t i = 0; exclude && i < exclude->n; i++)
        if (exclude->items[i]->n && agrees(a, leg, exclude->items[i]))
            return true;
    return false;
}

/* May `inc` join this original combination: no original key would change. */
static bool joins(struct arena *a, const struct value *original, const struct value *inc) {
    for (size_t k = 0; k < inc->n; k++) {
        const struct value *h = val_get(original, inc->keys[k]);
        if (h && !agrees(a, h, inc->items[k]))
            return false;
    }
    return true;
}

int matrix_expand(struct arena *a, const struct value *m, struct matrix *ret, struct err *e) {
    if (!m || m->kind != VAL_OBJECT)
        return err_set(e, ERR_CONFIG, -EINVAL, "the matrix must be a mapping");
    const struct value *include, *exclude;
    int r;
    if ((r = list_of(m, "include", &include, e)) < 0 || (r = list_of(m, "exclude", &exclude, e)) < 0)
        return r;
    struct value **legs = NULL;
    size_t n = 0, kept = 0;
    if ((r = product(a, m, &legs, &n, e)) < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        if (!excluded(a, legs[i], exclude))
            legs[kept++] = legs[i];
    n = kept;
    size_t more = include ? include->n : 0;
    if (n + more > 8192)
        return too_many(e);
    const struct value **all = ARENA_ARRAY(a, const struct value *, n + more + 1);
    struct value **merged = ARENA_ARRAY(a, struct value *, n + 1);
    for (size_t i = 0; i < n; i++)
        all[i] = merged[i] = copy_leg(a, legs[i]);
    size_t total = n;
    for (size_t i = 0; i < more; i++) {
        const struct value *inc = include->items[i];
        bool any = false;
        for (size_t j = 0; j < n; j++) {
            if (!joins(a, legs[j], inc))
                continue;
            any = true;
            for (size_t k = 0; k < inc->n; k++)
                val_set(a, merged[j], inc->keys[k], inc->items[k]);
        }
        if (!any)
            all[total++] = inc;
    }
    if (total > MATRIX_MAX)
        return too_many(e);
    ret->legs = all;
    ret->n = total;
    return 0;
}

void matrix_filter(struct arena *a, struct matrix *m, const struct strv *filters) {
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct value *leg = m->legs[i];
        bool keep = true;
        for (size_t k = 0; k < leg->n && keep; k++) {
            bool named = false, match = false;
            struct sv have = val_to_string(a, leg->items[k]);
            for (size_t f = 0; f < filters->n; f++) {
                struct sv rest = sv_from(filters->v[f]), key;
                if (!sv_split(&rest, ':', &key) || !sv_eq(sv_trim(key), leg->keys[k]))
                    continue;
                named = true;
                match |= sv_eq(sv_trim(rest), have);
            }
            keep = !named || match;
        }
        if (keep)
            m->legs[kept++] = leg;
    }
    m->n = kept;
}

static void label_value(const struct value *v, bool *first, struct buf *b, unsigned depth) {
    if (!scalar(v)) {
        for (size_t i = 0; i < v->n && depth < 16; i++)
            label_value(v->items[i], first, b, depth + 1);
        return;
    }
    if (v->kind == VAL_NULL)
        return;
    if (!*first)
        buf_adds(b, ", ");
    *first = false;
    if (v->kind == VAL_STRING)
        buf_addsv(b, v->str);
    else if (v->kind == VAL_NUMBER)
        val_format_number(v->number, b);
    else if (v->kind == VAL_BOOL)
        buf_adds(b, v->boolean ? "true" : "false");
}

void matrix_label(const struct value *leg, struct buf *b) {
    bool first = true;
    for (size_t i = 0; leg && i < leg->n; i++)
        label_value(leg->items[i], &first, b, 0);
}
