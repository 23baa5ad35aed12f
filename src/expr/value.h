#pragma once
/* Expression values: immutable once built, in an arena that outlives them. Objects keep insertion
 * order; key look-up is case-insensitive (Unicode upper-case folding). Arrays and objects have
 * identity (compared by address). Source: actions/languageservices expressions/src/data. */
#include "core/arena.h"
#include "core/json.h"

enum val_kind { VAL_NULL, VAL_BOOL, VAL_NUMBER, VAL_STRING, VAL_ARRAY, VAL_OBJECT };
struct value {
    enum val_kind kind;
    bool boolean;
    bool filtered; /* a filtered array (x.*) */
    double number;
    struct sv str; /* NUL-terminated as well */
    const struct value **items;
    struct sv *keys;
    size_t n, cap;
    uint32_t *index; /* of big objects: a hash table of positions + 1; internal */
    size_t index_cap;
};
extern const struct value val_null, val_true, val_false;
const struct value *val_bool(bool b);
const struct value *val_number(struct arena *a, double d);
const struct value *val_string(struct arena *a, struct sv s); /* copies */
const struct value *val_str(struct arena *a, const char *s);  /* NULL gives null */
struct value *val_array(struct arena *a);
struct value *val_object(struct arena *a);
void val_push(struct arena *a, struct value *array, const struct value *v);
void val_set(struct arena *a, struct value *object, struct sv key,
             const struct value *v); /* replaces */
void val_sets(struct arena *a, struct value *object, const char *key, const struct value *v);
void val_set_str(struct arena *a, struct value *object, const char *key, const char *s);
const struct value *val_get(const struct value *object, struct sv key); /* NULL when absent */
const struct value *val_gets(const struct value *object, const char *key);
const struct value *val_from_json(struct arena *a, const struct json *j);
/* toJSON's form: two blanks of indent, insertion order. */
void val_to_json(const struct value *v, struct buf *b, unsigned indent);
const char *val_kind_name(enum val_kind k); /* "Null", "Boolean", … */
/* One line, numbers with all their digits, NaN and infinities as null. */
void val_to_json_exact(const struct value *v, struct buf *b);
bool val_truthy(const struct value *v);
double val_to_number(const struct value *v); /* coercion; NaN for what is none */
double val_parse_number(struct sv s);        /* of a string; "" is 0 */
struct sv val_to_string(struct arena *a,
                        const struct value *v);  /* coercion: "" for null, "Object", "Array" */
void val_format_number(double d, struct buf *b); /* G15 */
bool val_equal(const struct value *a, const struct value *b); /* == of the language */
bool val_less(const struct value *a, const struct value *b);  /* <; false where nothing compares */
const struct value *val_clone(struct arena *a,
                              const struct value *v); /* deep, into another arena */
