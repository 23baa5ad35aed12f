/* Hands the embedded helper program to base/userns.h, before main(). */
#include "base/userns.h"
#include "box/ops.h"

#ifdef SLIPWAY_NS_HELPER
extern const char embed_ns_helper[], embed_ns_helper_end[];

void box_helper_use(void) {
    static const char *const ops[] = {"box", "net", "keeper", NULL};
    ns_static_image(embed_ns_helper, (size_t)(embed_ns_helper_end - embed_ns_helper), ops);
}
#else
void box_helper_use(void) {}
#endif

__attribute__((constructor)) static void before_main(void) {
    box_helper_use();
}
