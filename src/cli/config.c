/* Reads the configuration by one table of keys; nested mappings are named with a dot. */
#include "cli/config.h"

#include "base/yaml.h"
#include "cli/opts.h"
#include "core/fs.h"

enum type { T_BOOL, T_INT, T_SIZE, T_NUMBER, T_STR, T_LIST, T_MAP, T_STANDINS, T_PULL, T_NOT_BOOL };
struct key {
    const char *name;
    enum type type;
    size_t offset;
    bool user_only;
};
#define AT(m) offsetof(struct config, m)
static const struct key keys[] = {
    {"platforms", T_MAP, AT(platforms), false},
    {"runner-images", T_MAP, AT(runner_images), false},
    {"registry.mirrors", T_MAP, AT(mirrors), false},
    {"registry.insecure", T_LIST, AT(insecure), true},
    {"registry.allow-push", T_LIST, AT(allow_push), true},
    {"standins", T_STANDINS, AT(standins_never), false},
    {"env", T_MAP, AT(env), false},
    {"vars", T_MAP, AT(vars), false},
    {"parallel", T_INT, AT(parallel), false},
    {"offline", T_BOOL, AT(offline), false},
    {"pull", T_PULL, AT(pull), false},
    {"host-env", T_NOT_BOOL, AT(no_host_env), false},
    {"limits.memory", T_SIZE, AT(memory), false},
    {"limits.cpus", T_NUMBER, AT(cpus), false},
    {"limits.pids", T_SIZE, AT(pids), false},
    {"python.source", T_STR, AT(python_source), true},
    {"actions.mirror", T_STR, AT(actions_mirror), false},
    {"node.source", T_STR, AT(node_source), true},
    {"environments.protected", T_LIST, AT(protected), false},
    {"deploy.allow", T_LIST, AT(deploy_allow), true},
    {"deploy.actions", T_LIST, AT(deploy_actions), false},
    {"deploy.commands", T_LIST, AT(deploy_commands), false},
    {"check.labels", T_LIST, AT(check_labels), false},
    {"check.ignore", T_MAP, AT(check_ignore), false},
    {"log-max", T_SIZE, AT(log_max), false},
};

struct reader {
    struct config *c;
    struct diags *d;
    bool user;
};

static void wrong(struct reader *r, const struct yaml_node *n, const char *name, const char *want) {
    diags_add(r->d, DIAG_ERROR, n->at, "config", NULL, "%s: %s expected", name, want);
}

static void put_env(struct strv *s, struct sv key, const char *value) {
    _cleanup_free_ char *k = sv_dup(key);
    strv_env_set(s, k, value);
}

static void set_map(struct reader *r, const struct key *k, const struct yaml_node *n, struct strv *to) {
    if (n->kind != YAML_MAP) {
        wrong(r, n, k->name, "a mapping");
        return;
    }
    for (size_t i = 0; i < n->n; i++) {
        if (n->items[i]->kind != YAML_SCALAR) {
            wrong(r, n->items[i], k->name, "a text for each key");
            continue;
        }
        if (!r->user && streq(k->name, "platforms") && yaml_is(n->items[i], "host")) {
            diags_add(r->d, DIAG_WARNING, n->items[i]->at, "config", "put it into your own config.yml, or give -P LABEL=host",
                      "a repository cannot ask to run on this host without isolation: left out");
            continue;
        }
        put_env(to, n->keys[i]->text, n->items[i]->text.p);
    }
}

static void set(struct reader *r, const struct key *k, const struct yaml_node *n) {
    char *at = (char *)r->c + k->offset;
    double num;
    bool b;
    if (k->user_only && !r->user) {
        diags_add(r->d, DIAG_WARNING, n->at, "config", "put it into your own config.yml", "%s is only taken from the user's own file: left out", k->name);
        return;
    }
    if (k->type == T_MAP) {
        set_map(r, k, n, (struct strv *)(void *)at);
        return;
    }
    if (k->type == T_LIST) {
        if (n->kind != YAML_SEQ)
            wrong(r, n, k->name, "a list");
        for (size_t i = 0; n->kind == YAML_SEQ && i < n->n; i++) {
            if (n->items[i]->kind == YAML_SCALAR)
                strv_add((struct strv *)(void *)at, n->items[i]->text.p);
            else
                wrong(r, n->items[i], k->name, "a text");
        }
        return;
    }
    if (n->kind != YAML_SCALAR) {
        wrong(r, n, k->name, "a single value");
        return;
    }
    enum yaml_type type = yaml_scalar_type(n, &num, &b);
    switch (k->type) {
    case T_BOOL:
    case T_NOT_BOOL:
        if (type == YAML_T_BOOL)
            *(bool *)at = k->type == T_BOOL ? b : !b;
        else
            wrong(r, n, k->name, "true or false");
        break;
    case T_INT:
        if (type == YAML_T_INT && num >= 0 && num < 1e6)
            *(int64_t *)(void *)at = (int64_t)num;
        else
            wrong(r, n, k->name, "a number");
        break;
    case T_NUMBER:
        if ((type == YAML_T_INT || type == YAML_T_FLOAT) && num > 0)
            *(double *)(void *)at = num;
        else
            wrong(r, n, k->name, "a number");
        break;
    case T_SIZE:
        if (parse_size(n->text.p, (uint64_t *)(void *)at) < 0)
            wrong(r, n, k->name, "a size (512m, 2g)");
        break;
    case T_STANDINS:
        if (yaml_is(n, "never") || yaml_is(n, "auto"))
            *(bool *)at = yaml_is(n, "never");
        else
            wrong(r, n, k->name, "auto or never");
        break;
    case T_PULL:
        if (!yaml_is(n, "missing") && !yaml_is(n, "always") && !yaml_is(n, "never")) {
            wrong(r, n, k->name, "missing, always or never");
            break;
        }
        /* fall through */
    case T_STR:
        free(*(char **)(void *)at);
        *(char **)(void *)at = xstrdup(n->text.p);
        break;
    case T_LIST:
    case T_MAP:
        break;
    }
}

static void read_map(struct reader *r, const struct yaml_node *map, const char *prefix) {
    for (size_t i = 0; i < map->n; i++) {
        const struct yaml_node *kn = map->keys[i];
        _cleanup_free_ char *name = xasprintf("%s%s%s", prefix, *prefix ? "." : "", kn->text.p ? kn->text.p : "");
        bool known = false, is_prefix = false;
        size_t len = strlen(name);
        for (size_t k = 0; k < ELEMENTS(keys); k++) {
            if (streq(keys[k].name, name)) {
                set(r, &keys[k], map->items[i]);
                known = true;
            }
            is_prefix = is_prefix || (!strncmp(keys[k].name, name, len) && keys[k].name[len] == '.');
        }
        if (!known && is_prefix && map->items[i]->kind == YAML_MAP)
            read_map(r, map->items[i], name);
        else if (!known)
            diags_add(r->d, DIAG_ERROR, kn->at, "config", NULL, "unknown key: %s", name);
    }
}

static int read_file(struct reader *r, const char *path, const char *shown) {
    _cleanup_buf_ struct buf text = BUF_MAX(1u << 20);
    _cleanup_arena_ struct arena a = {0};
    struct yaml_node *root = NULL;
    struct err e = {0};
    const char *file = span_file(shown);
    int k = fs_read(AT_FDCWD, path, &text, &e);
    if (k == -ENOENT || k == -ENOTDIR)
        return 0;
    if (k < 0) {
        diags_add(r->d, DIAG_ERROR, (struct span){.file = file}, "config", NULL, "%s", e.msg);
        return -EBADMSG;
    }
    size_t before = r->d->errors;
    if (yaml_parse(&a, file, buf_sv(&text), NULL, &root, r->d) < 0)
        return -EBADMSG;
    if (root && root->kind != YAML_MAP)
        diags_add(r->d, DIAG_ERROR, root->at, "config", NULL, "a mapping expected");
    else if (root)
        read_map(r, root, "");
    return r->d->errors > before ? -EBADMSG : 0;
}

int config_load(struct config *ret, const char *repo_dir, struct diags *d) {
    *ret = (struct config){0};
    _cleanup_free_ char *dir = dir_config(), *user = path_join(dir, "config.yml");
    struct reader r = {ret, d, true};
    int k = read_file(&r, user, user);
    if (repo_dir) {
        _cleanup_free_ char *repo = path_join(repo_dir, ".slipway.yml");
        r.user = false;
        int k2 = read_file(&r, repo, repo);
        k = k < 0 ? k : k2;
    }
    return k;
}

void config_done(struct config *c) {
    struct strv *lists[] = {&c->platforms, &c->runner_images, &c->mirrors, &c->insecure, &c->allow_push, &c->env, &c->vars,
                            &c->protected, &c->deploy_allow, &c->deploy_actions, &c->deploy_commands,
                            &c->check_labels, &c->check_ignore};
    for (size_t i = 0; i < ELEMENTS(lists); i++)
        strv_done(lists[i]);
    free(c->pull);
    free(c->python_source);
    free(c->actions_mirror);
    free(c->node_source);
    *c = (struct config){0};
}
