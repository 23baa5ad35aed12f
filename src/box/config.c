/* config.json for the OCI runtime: only what differs from box to box is computed. User mounts are
 * not in it: the init mounts them, by the same way as into a living box. */
#include "box/impl.h"
#include "core/json.h"

static const char *const cap_names[] = {"CHOWN",
                                        "DAC_OVERRIDE",
                                        "DAC_READ_SEARCH",
                                        "FOWNER",
                                        "FSETID",
                                        "KILL",
                                        "SETGID",
                                        "SETUID",
                                        "SETPCAP",
                                        "LINUX_IMMUTABLE",
                                        "NET_BIND_SERVICE",
                                        "NET_BROADCAST",
                                        "NET_ADMIN",
                                        "NET_RAW",
                                        "IPC_LOCK",
                                        "IPC_OWNER",
                                        "SYS_MODULE",
                                        "SYS_RAWIO",
                                        "SYS_CHROOT",
                                        "SYS_PTRACE",
                                        "SYS_PACCT",
                                        "SYS_ADMIN",
                                        "SYS_BOOT",
                                        "SYS_NICE",
                                        "SYS_RESOURCE",
                                        "SYS_TIME",
                                        "SYS_TTY_CONFIG",
                                        "MKNOD",
                                        "LEASE",
                                        "AUDIT_WRITE",
                                        "AUDIT_CONTROL",
                                        "SETFCAP",
                                        "MAC_OVERRIDE",
                                        "MAC_ADMIN",
                                        "SYSLOG",
                                        "WAKE_ALARM",
                                        "BLOCK_SUSPEND",
                                        "AUDIT_READ",
                                        "PERFMON",
                                        "BPF",
                                        "CHECKPOINT_RESTORE"};

static int cap_bits(const char *name, uint64_t *ret) {
    if (strncasecmp(name, "CAP_", 4) == 0)
        name += 4;
    if (strcasecmp(name, "ALL") == 0) {
        *ret = (1ull << ELEMENTS(cap_names)) - 1;
        return 0;
    }
    for (size_t i = 0; i < ELEMENTS(cap_names); i++)
        if (strcasecmp(name, cap_names[i]) == 0) {
            *ret = 1ull << i;
            return 0;
        }
    return -EINVAL;
}

int caps_parse(const char *const *add, const char *const *drop, bool privileged, uint64_t *ret,
               struct err *e) {
    uint64_t caps = CAPS_DEFAULT, bits;
    if (privileged)
        caps = (1ull << ELEMENTS(cap_names)) - 1;
    /* "drop ALL, add X" is what people write, so drops come first. */
    for (; drop && *drop; drop++) {
        if (cap_bits(*drop, &bits) < 0)
            return err_set(e, ERR_USER, -EINVAL, "no such capability: %s", *drop);
        caps &= ~bits;
    }
    for (; add && *add; add++) {
        if (cap_bits(*add, &bits) < 0)
            return err_set(e, ERR_USER, -EINVAL, "no such capability: %s", *add);
        caps |= bits;
    }
    *ret = caps;
    return 0;
}

static void mount_entry(struct json_w *w, const char *target, const char *type, const char *source,
                        const char *const *options) {
    jw_obj(w);
    jw_kstr(w, "destination", target);
    jw_kstr(w, "type", type);
    jw_kstr(w, "source", source);
    jw_key(w, "options");
    jw_arr(w);
    for (; *options; options++)
        jw_str(w, *options);
    jw_end_arr(w);
    jw_end_obj(w);
}
#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void strings(struct json_w *w, const char *key, const char *const *v) {
    jw_key(w, key);
    jw_arr(w);
    for (; *v; v++)
        jw_str(w, *v);
    jw_end_arr(w);
}

static void process(struct json_w *w) {
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    jw_key(w, "process");
    jw_obj(w);
    jw_kbool(w, "terminal", false);
    jw_key(w, "user");
    jw_obj(w);
    jw_kint(w, "uid", 0);
    jw_kint(w, "gid", 0);
    jw_end_obj(w);
    strings(w, "args", OPTIONS("/dev/.slipway-init"));
    strings(w, "env", OPTIONS("PATH=/usr/sbin:/usr/bin:/sbin:/bin"));
    jw_kstr(w, "cwd", "/");
    jw_kbool(w, "noNewPrivileges", false);
    jw_key(w, "capabilities");
    jw_obj(w);
    for (size_t s = 0; s < ELEMENTS(sets); s++) {
        jw_key(w, sets[s]);
        jw_arr(w);
        for (size_t i = 0; i < ELEMENTS(cap_names); i++) {
            char name[40];
            snprintf(name, sizeof name, "CAP_%s", cap_names[i]);
            jw_str(w, name);
        }
        jw_end_arr(w);
    }
    jw_end_obj(w);
    jw_end_obj(w);
}

static void mounts(struct json_w *w, const struct box_spec *spec, const struct idmap *map,
                   const char *run) {
    char path[4096], shm[64];
    jw_key(w, "mounts");
    jw_arr(w);
    mount_entry(w, "/proc", "proc", "proc", OPTIONS("nosuid", "noexec", "nodev"));
    mount_entry(w, "/dev", "tmpfs", "tmpfs", OPTIONS("nosuid", "mode=755", "size=65536k"));
    /* Group 5 is tty; a single id knows no such group. */
    mount_entry(
        w, "/dev/pts", "devpts", "devpts",
        map->single
            ? OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
            : OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"));
    snprintf(shm, sizeof shm, "size=%llu",
             (unsigned long long)(spec->limits.shm ? spec->limits.shm : 64ull << 20));
    mount_entry(w, "/dev/shm", "tmpfs", "shm",
                OPTIONS("nosuid", "noexec", "nodev", "mode=1777", shm));
    mount_entry(w, "/dev/mqueue", "mqueue", "mqueue", OPTIONS("nosuid", "noexec", "nodev"));
    snprintf(path, sizeof path, "%s/sys", run);
    mount_entry(w, "/sys", "bind", path,
                spec->privileged ? OPTIONS("rbind", "nosuid", "noexec", "nodev")
                                 : OPTIONS("rbind", "ro", "nosuid", "noexec", "nodev"));
    snprintf(path, sizeof path, "%s/init", run);
    mount_entry(w, "/dev/.slipway-init", "bind", path, OPTIONS("bind", "ro", "nosuid", "nodev"));
    for (size_t i = 0; i < spec->n_devices; i++)
        mount_entry(w, spec->devices[i].path, "bind", spec->devices[i].path,
                    OPTIONS("bind", "nosuid"));
    jw_end_arr(w);
}

/* Identity, in the pieces of the namespace above: the kernel wants each range within one of its. */
static void id_mappings(struct json_w *w, const char *key, const struct idrange *rg, size_t n) {
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < n; i++) {
        jw_obj(w);
        jw_kint(w, "containerID", rg[i].inside);
        jw_kint(w, "hostID", rg[i].inside);
        jw_kint(w, "size", rg[i].count);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

void box_config(const struct box_spec *spec, const struct idmap *map, const char *run,
                struct buf *out) {
    static const char *const namespaces[] = {"user", "pid", "mount", "ipc", "uts"};
    struct json_w w;
    char path[4096];
    jw_init(&w, out, 0);
    jw_obj(&w);
    jw_kstr(&w, "ociVersion", "1.0.0");
    process(&w);
    jw_kstr(&w, "hostname", spec->hostname && *spec->hostname ? spec->hostname : "box");
    jw_key(&w, "root");
    jw_obj(&w);
    snprintf(path, sizeof path, "%s/root", run);
    jw_kstr(&w, "path", path);
    jw_end_obj(&w);
    mounts(&w, spec, map, run);
    jw_key(&w, "linux");
    jw_obj(&w);
    id_mappings(&w, "uidMappings", map->uid, map->n_uid);
    id_mappings(&w, "gidMappings", map->gid, map->n_gid);
    /* No network entry: the supervisor is in the right one already; the init makes the cgroup
     * namespace, once it is in its group. */
    jw_key(&w, "namespaces");
    jw_arr(&w);
    for (size_t i = 0; i < ELEMENTS(namespaces); i++) {
        jw_obj(&w);
        jw_kstr(&w, "type", namespaces[i]);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    if (!spec->privileged) {
        strings(&w, "maskedPaths",
                OPTIONS("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys",
                        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                        "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                        "/sys/devices/virtual/powercap"));
        strings(&w, "readonlyPaths",
                OPTIONS("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"));
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
}
