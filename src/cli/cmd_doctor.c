/* slipway doctor: what this host can do, and what mends what it cannot. */
#include "box/doctor.h"
#include "cli/opts.h"
#include "cli/term.h"
#include "core/json.h"

static const char *const status_names[] = {"ok", "warning", "fail"};

static void print_json(const struct doctor_check *list, size_t n, bool ok) {
    _cleanup_buf_ struct buf b = BUF_LARGE;
    struct json_w w;
    jw_init(&w, &b, 2);
    jw_obj(&w);
    jw_kbool(&w, "ok", ok);
    jw_key(&w, "checks");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++) {
        jw_obj(&w);
        jw_kstr(&w, "name", list[i].name);
        jw_kstr(&w, "status", status_names[list[i].status]);
        jw_kstr(&w, "detail", list[i].detail);
        jw_kstr(&w, "fix", list[i].fix[0] ? list[i].fix : NULL);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    puts(buf_str(&b));
}

static void print_text(const struct doctor_check *list, size_t n) {
    static const char *const marks[] = {"ok  ", "warn", "FAIL"};
    static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m"};
    bool colour = term_colour(1);
    for (size_t i = 0; i < n; i++) {
        printf("%s%s%s  %-16s %s\n", colour ? colours[list[i].status] : "", marks[list[i].status],
               colour ? "\033[0m" : "", list[i].name, list[i].detail);
        if (list[i].fix[0] && list[i].status != DOCTOR_OK)
            printf("%24s→ %s\n", "", list[i].fix);
    }
}

int cmd_doctor(int argc, char **argv);
int cmd_doctor(int argc, char **argv) {
    bool json = false;
    const struct opt items[] = {{0, "json", OPT_FLAG, &json, NULL, "print JSON"}};
    const struct opts o = {
        .usage = "doctor [--json]",
        .about = "Tells what this host can do for slipway, and the one command that mends each\n"
                 "thing it cannot. Makes a user namespace, a box and a network to find out.\n"
                 "Exit code 3 when a run cannot work here.",
        .items = items,
        .n = ELEMENTS(items)};
    struct doctor_check list[DOCTOR_MAX];
    struct store *s = NULL;
    struct err e = {0};
    int n_args, r = opts_begin(&o, argc, argv, &n_args);
    if (r >= 0)
        return r;
    struct store_options so = {.allow_single_id = true};
    if (store_open(&s, &so, &e) < 0)
        s = NULL;
    size_t n = doctor_run(s, &e, list);
    store_close(s);
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok &= list[i].status != DOCTOR_FAIL;
    if (json)
        print_json(list, n, ok);
    else
        print_text(list, n);
    return ok ? 0 : err_exit_code(ERR_ENV);
}
