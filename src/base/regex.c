#include "base/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define STEPS 200000
#define HEAP_KB 4096

struct regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    uint32_t groups;
};

int regex_new(struct regex **ret, const char *pattern, struct err *e) {
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_ALT_BSUX | PCRE2_NEVER_BACKSLASH_C,
                                     &error, &at, NULL);
    if (!code) {
        PCRE2_UCHAR text[200] = "";
        pcre2_get_error_message(error, text, sizeof text);
        return err_set(e, ERR_CONFIG, -EINVAL, "the pattern '%.200s' is not understood at %zu: %s", pattern, at, (const char *)text);
    }
    struct regex *re = xcalloc(1, sizeof *re);
    re->code = code;
    re->data = pcre2_match_data_create_from_pattern(code, NULL);
    re->limits = pcre2_match_context_create(NULL);
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
    pcre2_set_match_limit(re->limits, STEPS);
    pcre2_set_depth_limit(re->limits, STEPS);
    pcre2_set_heap_limit(re->limits, HEAP_KB);
    *ret = re;
    return 0;
}

void regex_free(struct regex *re) {
    if (!re)
        return;
    pcre2_match_context_free(re->limits);
    pcre2_match_data_free(re->data);
    pcre2_code_free(re->code);
    free(re);
}

unsigned regex_groups(const struct regex *re) { return re->groups; }

int regex_match(struct regex *re, struct sv s, struct sv *groups, size_t n) {
    int r = pcre2_match(re->code, (PCRE2_SPTR)(s.p ? s.p : ""), s.n, 0, 0, re->data, re->limits);
    if (r == PCRE2_ERROR_NOMATCH)
        return 0;
    if (r < 0)
        return -ELOOP;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(re->data);
    for (size_t i = 0; i < n; i++) {
        bool set = i < (size_t)r && at[2 * i] != PCRE2_UNSET && at[2 * i + 1] >= at[2 * i];
        groups[i] = set ? sv_n(s.p + at[2 * i], at[2 * i + 1] - at[2 * i]) : SV_NULL;
    }
    return 1;
}
