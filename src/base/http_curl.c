#include "base/http_curl.h"

#include <dlfcn.h>
#include <pthread.h>

enum { POOL = 16 };

static struct curl_api api;
static int load_result;
static char load_error[256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static CURL *pool[POOL];
static size_t pooled;

static void load(void) {
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        const char *why = dlerror();
        snprintf(load_error, sizeof load_error, "%s", why ? why : "libcurl.so.4");
        load_result = -ENOSYS;
        return;
    }
    const struct {
        const char *name;
        void *slot;
    } want[] = {
        {"curl_global_init", &api.global_init},
        {"curl_easy_init", &api.easy_init},
        {"curl_easy_setopt", &api.easy_setopt},
        {"curl_easy_perform", &api.easy_perform},
        {"curl_easy_getinfo", &api.easy_getinfo},
        {"curl_easy_reset", &api.easy_reset},
        {"curl_easy_cleanup", &api.easy_cleanup},
        {"curl_easy_strerror", &api.easy_strerror},
        {"curl_slist_append", &api.slist_append},
        {"curl_slist_free_all", &api.slist_free_all},
        {"curl_url", &api.url},
        {"curl_url_cleanup", &api.url_cleanup},
        {"curl_url_set", &api.url_set},
        {"curl_url_get", &api.url_get},
        {"curl_free", &api.free},
    };
    for (size_t i = 0; i < ELEMENTS(want); i++) {
        void *f = dlsym(lib, want[i].name);
        if (!f) {
            snprintf(load_error, sizeof load_error, "libcurl.so.4 has no %s", want[i].name);
            load_result = -ENOSYS;
            return;
        }
        memcpy(want[i].slot, &f, sizeof f);
    }
    if (api.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        snprintf(load_error, sizeof load_error, "libcurl cannot be initialised");
        load_result = -ENOSYS;
    }
}

int curl_load(const struct curl_api **ret, struct err *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    if (load_result < 0) {
        err_set(e, ERR_ENV, load_result, "the HTTP client: %s", load_error);
        return err_hint(e, load_result, "apt-get install libcurl4");
    }
    *ret = &api;
    return 0;
}

CURL *curl_borrow(const struct curl_api *c) {
    CURL *h = NULL;
    pthread_mutex_lock(&lock);
    if (pooled)
        h = pool[--pooled];
    pthread_mutex_unlock(&lock);
    return h ? h : c->easy_init();
}

void curl_return(const struct curl_api *c, CURL *h) {
    c->easy_reset(h); /* options go, connections stay */
    pthread_mutex_lock(&lock);
    if (pooled < POOL) {
        pool[pooled++] = h;
        h = NULL;
    }
    pthread_mutex_unlock(&lock);
    if (h)
        c->easy_cleanup(h);
}
