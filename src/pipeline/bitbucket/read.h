#pragma once
/* Shared by the parts of the Bitbucket reader: read.c lays out pipelines, parts.c reads what
 * belongs to one step. Values take NULL for a key that is absent. */
#include "core/map.h"
#include "pipeline/plan.h"

struct bb_reader {
    struct plan *plan;
    struct arena *a;
    struct diags *d;
    const struct yaml_node *root, *definitions;
    struct map ids;
    size_t cap;
};
void bb_error(struct bb_reader *r, const struct yaml_node *n, const char *code, const char *fmt,
              ...) _printf_(4, 5);

struct text bb_text(const struct yaml_node *n); /* s NULL: absent, null, or no scalar */
struct text bb_made(struct bb_reader *r, const char *s, struct span at);
const char *bb_str(const struct yaml_node *n);
bool bb_flag(const struct yaml_node *n, bool dflt);
long bb_number(const struct yaml_node *n, long dflt); /* within a thousand millions */
const char **bb_strings(struct bb_reader *r, const struct yaml_node *n,
                        size_t *ret_n); /* one, or a list */

void bb_image(struct bb_reader *r, const struct yaml_node *n, struct plan_container *c,
              uint32_t *ret_user);
void bb_services(struct bb_reader *r, const struct yaml_node *step, struct plan_job *j);
void bb_caches(struct bb_reader *r, const struct yaml_node *list, struct plan_bitbucket *bb);
void bb_artifacts(struct bb_reader *r, const struct yaml_node *n, struct plan_bitbucket *bb);
void bb_condition(struct bb_reader *r, const struct yaml_node *n, struct plan_bitbucket *bb);
void bb_on_fail(struct bb_reader *r, const struct yaml_node *n, struct plan_bitbucket *bb);
/* Appends the commands and pipes as steps; j->steps has the room. */
void bb_script(struct bb_reader *r, struct plan_job *j, const struct yaml_node *list, bool after);
