#include "cli/plan_legs.h"

#include "run/matrix.h"

enum { MAX_DEPTH = 50 };

/* NULL when there is an expression in it. */
static const struct value *value_of(struct arena *a, const struct yaml_node *n, unsigned depth) {
    double number = 0;
    bool flag = false;
    if (depth > MAX_DEPTH)
        return NULL;
    if (n->kind == YAML_SCALAR) {
        if (sv_find(n->text, SV("${{")) >= 0)
            return NULL;
        switch (yaml_scalar_type(n, &number, &flag)) {
        case YAML_T_NULL:
            return &val_null;
        case YAML_T_BOOL:
            return val_bool(flag);
        case YAML_T_INT:
        case YAML_T_FLOAT:
            return val_number(a, number);
        case YAML_T_STRING:
            return val_string(a, n->text);
        }
    }
    struct value *v = n->kind == YAML_SEQ ? val_array(a) : val_object(a);
    for (size_t i = 0; i < n->n; i++) {
        const struct value *item = value_of(a, n->items[i], depth + 1);
        if (!item || (n->kind == YAML_MAP && (n->keys[i]->kind != YAML_SCALAR ||
                                              sv_find(n->keys[i]->text, SV("${{")) >= 0)))
            return NULL;
        if (n->kind == YAML_SEQ)
            val_push(a, v, item);
        else
            val_set(a, v, n->keys[i]->text, item);
    }
    return v;
}

/* False: not known before a run. */
static bool legs_of(struct arena *a, const struct plan_job *j, struct matrix *m, struct err *e) {
    const struct value *v = j->matrix && j->matrix->kind == YAML_MAP ? value_of(a, j->matrix, 0) : NULL;
    if (!v)
        return false;
    if (matrix_expand(a, v, m, e) < 0)
        m->n = 0;
    return true;
}

size_t plan_legs_count(const struct plan_job *j) {
    _cleanup_arena_ struct arena a = {0};
    struct matrix m = {0};
    struct err e = {0};
    return legs_of(&a, j, &m, &e) ? m.n : 0;
}

void plan_legs_put(const struct plan *p, struct json_w *w) {
    for (size_t i = 0; i < p->n_jobs; i++) {
        _cleanup_arena_ struct arena a = {0};
        struct matrix m = {0};
        struct err e = {0};
        if (!legs_of(&a, &p->jobs[i], &m, &e))
            continue;
        jw_obj(w);
        jw_kstr(w, "file", p->file);
        jw_kstr(w, "job", p->jobs[i].id);
        if (e.kind != ERR_NONE) {
            jw_kstr(w, "error", e.msg);
        } else {
            jw_key(w, "legs");
            jw_arr(w);
            for (size_t k = 0; k < m.n; k++) {
                _cleanup_buf_ struct buf b = BUF_LARGE;
                val_to_json_exact(m.legs[k], &b);
                jw_raw(w, buf_sv(&b));
            }
            jw_end_arr(w);
        }
        jw_end_obj(w);
    }
}
