#pragma once
/* A small test runner: TEST(name) { … CHECK(x); CHECK_STR(a, b); } and TEST_MAIN. Prints one line
 * per test in TAP-like form and exits non-zero when any check failed or no test ran. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*fn)(void);
    struct test_case *next;
};
static struct test_case *test_first, **test_last = &test_first;
static unsigned test_failures;
static unsigned test_checks;

#define TEST(id)                                                                                   \
    static void test_##id(void);                                                                   \
    static struct test_case case_##id = {#id, test_##id, NULL};                                    \
    __attribute__((constructor)) static void register_##id(void) {                                 \
        *test_last = &case_##id;                                                                   \
        test_last = &case_##id.next;                                                               \
    }                                                                                              \
    static void test_##id(void)

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        test_checks++;                                                                             \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #x);                        \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *a_ = (a), *b_ = (b);                                                           \
        test_checks++;                                                                             \
        if (!a_ || !b_ || strcmp(a_, b_) != 0) {                                                   \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #a,           \
                    a_ ? a_ : "(null)", b_ ? b_ : "(null)");                                       \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)
#define CHECK_INT(a, b)                                                                            \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        test_checks++;                                                                             \
        if (a_ != b_) {                                                                            \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, a_, b_);      \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)

int main(int argc, char **argv) {
    unsigned ran = 0, failed = 0;
    for (struct test_case *t = test_first; t; t = t->next) {
        if (argc > 1 && strcmp(argv[1], t->name) != 0)
            continue;
        unsigned before = test_failures;
        t->fn();
        ran++;
        if (test_failures > before)
            failed++;
        printf("%s %u - %s\n", test_failures > before ? "not ok" : "ok", ran, t->name);
    }
    printf("# %u tests, %u failed, %u checks\n", ran, failed, test_checks);
    return failed || !ran || !test_checks;
}
