/* The system call filter of commands: what Docker's default profile denies to a container without
 * added capabilities (moby, profiles/seccomp/default.json), as a list of what is refused.
 *
 * A list of refusals and not of permissions: the box has a user namespace of its own, so the
 * filter is the second fence, and a call that is newer than this list then works instead of
 * confusing programs. clone3 is refused with ENOSYS, since its flags cannot be seen; libraries
 * fall back to clone, whose namespace flags are refused. ptrace and its relatives stay allowed, as
 * Docker has it since kernel 4.8: a debugger works on a user's own processes. */
#include "box/impl.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <seccomp.h>
#include <sys/mman.h>

static const char *const denied[] = {"acct",
                                     "add_key",
                                     "bpf",
                                     "clock_adjtime",
                                     "clock_settime",
                                     "create_module",
                                     "delete_module",
                                     "fanotify_init",
                                     "finit_module",
                                     "fsconfig",
                                     "fsmount",
                                     "fsopen",
                                     "fspick",
                                     "get_kernel_syms",
                                     "get_mempolicy",
                                     "init_module",
                                     "io_uring_enter",
                                     "io_uring_register",
                                     "io_uring_setup",
                                     "ioperm",
                                     "iopl",
                                     "kexec_file_load",
                                     "kexec_load",
                                     "keyctl",
                                     "lookup_dcookie",
                                     "mbind",
                                     "migrate_pages",
                                     "mount",
                                     "mount_setattr",
                                     "move_mount",
                                     "move_pages",
                                     "nfsservctl",
                                     "open_by_handle_at",
                                     "open_tree",
                                     "perf_event_open",
                                     "pivot_root",
                                     "query_module",
                                     "quotactl",
                                     "quotactl_fd",
                                     "reboot",
                                     "request_key",
                                     "set_mempolicy",
                                     "set_mempolicy_home_node",
                                     "setns",
                                     "settimeofday",
                                     "stime",
                                     "swapoff",
                                     "swapon",
                                     "_sysctl",
                                     "sysfs",
                                     "syslog",
                                     "umount",
                                     "umount2",
                                     "unshare",
                                     "uselib",
                                     "userfaultfd",
                                     "ustat",
                                     "vhangup",
                                     "vm86",
                                     "vm86old"};
static int add(scmp_filter_ctx c, uint32_t action, const char *name, unsigned n,
               const struct scmp_arg_cmp *arg) {
    int nr = seccomp_syscall_resolve_name(name);
    if (nr == __NR_SCMP_ERROR)
        return 0; /* this libseccomp does not know it */
    int r = seccomp_rule_add_array(c, action, nr, n, arg);
    return r == -EDOM || r == -EEXIST ? 0 : r;
}

static int fill(scmp_filter_ctx c) {
    static const uint64_t new_namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
                                           CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
                                           CLONE_NEWCGROUP;
    int r = 0;
#ifdef __x86_64__
    if (seccomp_arch_add(c, SCMP_ARCH_X86) < 0 || seccomp_arch_add(c, SCMP_ARCH_X32) < 0)
        return -EINVAL;
#elif defined(__aarch64__)
    if (seccomp_arch_add(c, SCMP_ARCH_ARM) < 0)
        return -EINVAL;
#endif
    seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < ELEMENTS(denied) && r == 0; i++)
        r = add(c, SCMP_ACT_ERRNO(EPERM), denied[i], 0, NULL);
    if (r == 0)
        r = add(c, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
    /* One rule per flag: any of them refuses. */
    for (uint64_t f = 1; f && r == 0; f <<= 1)
        if (new_namespaces & f) {
            struct scmp_arg_cmp a = SCMP_A0(SCMP_CMP_MASKED_EQ, f, f);
            r = add(c, SCMP_ACT_ERRNO(EPERM), "clone", 1, &a);
        }
    if (r == 0) { /* AF_VSOCK reaches the hypervisor's host */
        struct scmp_arg_cmp a = SCMP_A0(SCMP_CMP_EQ, 40);
        r = add(c, SCMP_ACT_ERRNO(EPERM), "socket", 1, &a);
    }
    return r;
}

static int filter = -ENOSYS;

static void make(void) {
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_ALLOW);
    if (!c)
        return;
    int fd = memfd_create("seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = fd < 0 ? -errno : fill(c);
    if (r == 0)
        r = seccomp_export_bpf(c, fd);
    seccomp_release(c);
    if (r == 0) {
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
        filter = fd;
    } else {
        fd_close(fd);
        filter = r;
    }
}

int seccomp_fd(struct err *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
    if (filter < 0)
        return err_errno(e, filter, "make the system call filter");
    return filter;
}
