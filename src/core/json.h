#pragma once
/* JSON (RFC 8259): reader into an arena tree that keeps order, positions and number text; writer
 * onto a struct buf. Duplicate keys: the last wins on look-up, all are kept in order. Limits:
 * depth 128 unless given, size is the input's. Invalid UTF-8 and lone surrogates become U+FFFD
 * unless strict. */
#include "core/arena.h"
#include "core/err.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
struct json {
    enum json_kind kind;
    bool boolean;
    double number;
    struct sv text; /* string's value (decoded) or the number's own text */
    struct json **items; /* values of an array or object, in order */
    struct sv *keys;     /* of an object */
    size_t n;
    uint32_t line, col;
};
int json_parse(struct arena *a, struct sv text, struct json **ret, struct err *e);
/* All accessors take NULL and the wrong kind, and then give NULL / the default. */
const struct json *json_get(const struct json *o, const char *key);
const struct json *json_path(const struct json *o, const char *dotted); /* "a.b.c" */
const char *json_str(const struct json *j, const char *dflt); /* NUL-terminated; text with NULs gives dflt */
struct sv json_sv(const struct json *j);
const char *json_get_str(const struct json *o, const char *key, const char *dflt);
int64_t json_int(const struct json *j, int64_t dflt);
int64_t json_get_int(const struct json *o, const char *key, int64_t dflt);
bool json_bool(const struct json *j, bool dflt);
bool json_get_bool(const struct json *o, const char *key, bool dflt);

/* Writer: keeps the commas itself. Depth at most 64 (asserted). indent 0 = compact. */
struct json_w {
    struct buf *b;
    unsigned indent, depth;
    bool comma[65];
    bool after_key;
};
void jw_init(struct json_w *w, struct buf *b, unsigned indent);
void jw_obj(struct json_w *w);
void jw_end_obj(struct json_w *w);
void jw_arr(struct json_w *w);
void jw_end_arr(struct json_w *w);
void jw_key(struct json_w *w, const char *key);
void jw_keysv(struct json_w *w, struct sv key);
void jw_str(struct json_w *w, const char *s); /* NULL writes null */
void jw_sv(struct json_w *w, struct sv s);
void jw_int(struct json_w *w, int64_t v);
void jw_uint(struct json_w *w, uint64_t v);
void jw_double(struct json_w *w, double v); /* shortest that reads back; NaN and infinity as null */
void jw_bool(struct json_w *w, bool v);
void jw_null(struct json_w *w);
void jw_raw(struct json_w *w, struct sv json); /* inserted as is */
void jw_json(struct json_w *w, const struct json *j);
void jw_kstr(struct json_w *w, const char *key, const char *s);
void jw_kint(struct json_w *w, const char *key, int64_t v);
void jw_kbool(struct json_w *w, const char *key, bool v);
void json_escape(struct buf *b, struct sv s); /* with the quotes */
