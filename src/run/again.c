#include "run/again.h"

#include "core/json.h"

#define NS "attempt"
#define RECORD_MAX (16u << 20)

int run_last(struct store *s, const char *dir, struct buf *json) {
    _cleanup_buf_ struct buf id = BUF_SMALL;
    int r = rec_get(s, "last-run", dir, &id);
    return r > 0 ? rec_get(s, NS, buf_str(&id), json) : r;
}

int again_load(struct run *r, const char *id, struct err *e) {
    _cleanup_buf_ struct buf b = BUF_MAX(RECORD_MAX);
    struct json *j;
    int x = rec_get(r->rq->store, NS, id, &b);
    if (x <= 0)
        return err_set(e, ERR_NOTFOUND, x < 0 ? x : -ENOENT, "nothing is recorded of run %s", id);
    if ((x = json_parse(&r->arena, buf_sv(&b), &j, e)) < 0)
        return err_wrap(e, x, "record of run %s", id);
    snprintf(r->id, sizeof r->id, "%s", id);
    r->number = (uint64_t)json_get_int(j, "number", 1);
    r->attempt = (unsigned)json_get_int(j, "attempt", 1) + 1;
    r->again = json_get(j, "jobs");
    return 0;
}

static void put_leg(struct json_w *w, const struct leg *leg) {
    _cleanup_buf_ struct buf b = BUF_MAX(RECORD_MAX);
    jw_key(w, leg->name);
    jw_obj(w);
    jw_kstr(w, "outcome", outcome_name(leg->outcome));
    jw_kstr(w, "result", outcome_name(leg->result));
    if (leg->outputs) {
        val_to_json(leg->outputs, &b, 0);
        jw_key(w, "outputs");
        jw_raw(w, buf_sv(&b));
    }
    jw_end_obj(w);
}

void again_save(struct run *r) {
    _cleanup_buf_ struct buf b = BUF_MAX(RECORD_MAX);
    struct json_w w;
    if (!r->rq->store)
        return;
    jw_init(&w, &b, 0);
    jw_obj(&w);
    jw_kstr(&w, "id", r->id);
    jw_kint(&w, "number", (int64_t)r->number);
    jw_kint(&w, "attempt", r->attempt);
    jw_kstr(&w, "event", r->rq->event.name);
    jw_kstr(&w, "select", r->rq->select);
    jw_key(&w, "jobs");
    jw_obj(&w);
    unsigned bad = 0;
    for (size_t i = 0; i < r->n_flows; i++)
        for (size_t k = 0; k < r->flows[i]->n_jobs; k++)
            for (size_t l = 0; l < r->flows[i]->jobs[k].n_legs; l++) {
                const struct leg *leg = r->flows[i]->jobs[k].legs[l];
                put_leg(&w, leg);
                bad += leg->outcome != OUT_SUCCESS && leg->outcome != OUT_SKIPPED;
            }
    /* What an earlier attempt kept of called workflows that were not looked into again. */
    for (size_t i = 0; r->again && i < r->again->n; i++)
        if (!map_has(&r->names, r->again->keys[i])) {
            jw_keysv(&w, r->again->keys[i]);
            jw_json(&w, r->again->items[i]);
        }
    jw_end_obj(&w);
    jw_kint(&w, "bad", bad);
    jw_end_obj(&w);
    if (buf_ok(&b) && rec_put(r->rq->store, NS, r->id, buf_sv(&b), NULL) >= 0)
        (void)rec_put(r->rq->store, "last-run", r->rq->dir, sv_from(r->id), NULL);
}

bool again_leg(struct leg *leg) {
    const struct json *was = leg->run->again ? json_get(leg->run->again, leg->name) : NULL;
    if (!was || !streq(json_get_str(was, "outcome", ""), "success"))
        return false;
    const struct json *o = json_get(was, "outputs");
    if (o)
        leg->outputs = val_from_json(&leg->arena, o);
    return true;
}
