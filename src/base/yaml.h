#pragma once
/* YAML 1.2 (as go-yaml and GitHub read it) into a tree that carries positions. libyaml events
 * underneath. Aliases share the anchor's node (expansion counted against the limits); explicit
 * tags are kept in `tag`. Scalars are not typed here: the reader of a schema types them
 * (yaml_scalar_type gives the core schema's view). */
#include "core/arena.h"
#include "core/err.h"

enum yaml_kind { YAML_SCALAR, YAML_SEQ, YAML_MAP };
enum yaml_style { YAML_PLAIN, YAML_SINGLE, YAML_DOUBLE, YAML_LITERAL, YAML_FOLDED };
enum yaml_type { YAML_T_NULL, YAML_T_BOOL, YAML_T_INT, YAML_T_FLOAT, YAML_T_STRING };

struct yaml_node {
    enum yaml_kind kind;
    enum yaml_style style;
    struct sv text; /* scalar: decoded text, NUL-terminated, may hold NULs */
    const char *tag;
    struct yaml_node **items; /* seq: items; map: values */
    struct yaml_node **keys;  /* map */
    size_t n;
    struct span at; /* start to end; for a literal or folded scalar the first content line is in
                       content_line (0 else), so that positions inside can be computed */
    uint32_t content_line, content_indent;
    bool from_alias;
};
struct yaml_limits {
    size_t max_bytes;  /* 0 = 1 MiB */
    size_t max_depth;  /* 0 = 64 */
    size_t max_nodes;  /* after alias expansion; 0 = 1,000,000 */
    bool keep_duplicates; /* keys that occur twice are the caller's to report */
    bool merge;        /* "<<: *x" puts the keys of x into the mapping (Bitbucket, compose) */
};
/* Keys that occur twice in a mapping are an error ("yaml-duplicate-key"), syntax errors are "yaml",
 * limits "yaml-limit". The node of an alias is a copy with from_alias set, whose position and
 * children are those of the anchor. Reads one document (an empty one gives *ret = NULL). Errors go to d, with positions; returns
 * -EBADMSG then. A second document is an error unless the list form is used. */
int yaml_parse(struct arena *a, const char *file, struct sv text, const struct yaml_limits *lim,
               struct yaml_node **ret, struct diags *d);
int yaml_parse_all(struct arena *a, const char *file, struct sv text, const struct yaml_limits *lim,
                   struct yaml_node ***ret_docs, size_t *ret_n, struct diags *d);
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key); /* first match */
bool yaml_is(const struct yaml_node *n, const char *scalar_text);
/* Core schema type of a plain scalar (quoted: string), with the value. */
enum yaml_type yaml_scalar_type(const struct yaml_node *n, double *ret_num, bool *ret_bool);
