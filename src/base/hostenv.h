#pragma once
/* What of the host reaches jobs and builds: its CA bundle and its proxy variables (companies with
 * a TLS proxy need both). Never part of an image, a history or a cache key. */
#include "core/str.h"

/* Path of the host's CA bundle (SSL_CERT_FILE, then the usual places), malloc; NULL: none. */
char *host_ca_bundle(void);
/* Where the bundle is mounted read-only in a box. */
#define BOX_CA_BUNDLE "/etc/slipway/ca-certificates.crt"
/* "K=V" items for a box: the variables by which programs find a CA bundle, all naming ca_path
 * (skipped when NULL), and the host's proxy variables in both cases. A proxy on the host's loopback
 * is named by `gateway` instead, the address under which a box reaches it (skipped when NULL). */
void host_env(struct strv *ret, const char *ca_path, const char *gateway);
