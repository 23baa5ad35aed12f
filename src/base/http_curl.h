#pragma once
/* libcurl, loaded when first needed: linking to it would cost every start of the program 5 ms and
 * 30 shared objects. Internal to base/http.c. */
#include "core/err.h"

#include <curl/curl.h>

struct curl_api {
    CURLcode (*global_init)(long);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
    CURLcode (*easy_perform)(CURL *);
    CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
    void (*easy_reset)(CURL *);
    void (*easy_cleanup)(CURL *);
    const char *(*easy_strerror)(CURLcode);
    struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
    void (*slist_free_all)(struct curl_slist *);
    CURLU *(*url)(void);
    void (*url_cleanup)(CURLU *);
    CURLUcode (*url_set)(CURLU *, CURLUPart, const char *, unsigned);
    CURLUcode (*url_get)(CURLU *, CURLUPart, char **, unsigned);
    void (*free)(void *);
};
int curl_load(const struct curl_api **ret, struct err *e);
/* Handles keep their connections open; a request borrows one. */
CURL *curl_borrow(const struct curl_api *c);
void curl_return(const struct curl_api *c, CURL *h);
