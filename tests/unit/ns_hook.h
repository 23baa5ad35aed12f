#pragma once
/* A unit test that starts helpers is re-executed as one: defines the constructor that hands
 * `… __ns …` to ns_main with the table `test_ops`, before the test runner sees the arguments. */
#include "base/userns.h"

#define NS_HOOK(test_ops)                                                                          \
    __attribute__((constructor)) static void ns_hook(int argc, char **argv) {                      \
        if (argc > 1 && strcmp(argv[1], "__ns") == 0)                                              \
            _exit(ns_main((test_ops), sizeof(test_ops) / sizeof((test_ops)[0]), argc, argv));      \
    }
