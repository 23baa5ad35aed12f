#pragma once
/* What is spoken between the main process and a box's init, over a SOCK_SEQPACKET socket.
 *
 * A request is one datagram: struct box_req, then its strings, each with its NUL (n_argv, n_env,
 * then the two named ones). Strings longer than BOX_INLINE come in a memfd, the last descriptor.
 * Descriptor 0 of each request is its reply socket (SOCK_SEQPACKET too), so that several threads
 * can ask at once and nobody has to sort answers; the init's copies close when there is nothing
 * more to say, so an EOF without an answer means that the box has died.
 *
 * Answers: one BOX_DONE for all but EXEC, which gives BOX_PID (by init), then BOX_READY (by the
 * child, just before its exec; with the pty's master) or BOX_FAILED, perhaps BOX_NOEXEC, then
 * BOX_EXIT. Both sides are of one build, so there is no versioning but the magic. */
#include <stdint.h>

#define BOX_MAGIC 0x31786f62u
#define BOX_INLINE (48u << 10)
#define BOX_PAYLOAD_MAX (8u << 20)
#define BOX_MAX_FDS 8

/* Descriptors that init finds when it starts. */
#define BOX_FD_CONTROL 3
#define BOX_FD_LIFE 4

enum box_req_kind {
    BOX_HELLO = 1, /* fds: seccomp program. num[0] = RLIMIT_NPROC or 0; caps */
    BOX_EXEC,      /* fds: those of in, out, err that flags name */
    BOX_OPEN,      /* str1 = path, num[0] = flags, num[1] = mode */
    BOX_MKDIRS,    /* str1 = path, num[0] = mode, num[1] = uid, num[2] = gid */
    BOX_OPEN_TREE, /* str1 = path */
    BOX_MOUNT,     /* fds: a detached mount. str1 = target, num = mode, uid, gid of what is made */
    BOX_NEW_TMPFS, /* str1 = target, str2 = options "size=…,mode=…" as fsconfig pairs, flags */
    BOX_UMOUNT,    /* str1 = target; with BOX_F_STUB what was made for it goes too, when empty */
    BOX_ROOT_RO,   /* the root becomes read-only */
    BOX_WRITE,     /* fds: a memfd with the bytes. str1 = path, num = mode, uid, gid; atomic */
    BOX_SIGNAL,    /* num[0] = pid, num[1] = signal; BOX_F_GROUP: its session and descendants */
    BOX_KILLALL,   /* num[0] = signal */
    BOX_PROBE,     /* argv = paths. text = a '1' for each that is there, else '0' */
    BOX_STATS,     /* text = memory, cpu ns, processes, received, sent */
};
enum box_req_flags {
    BOX_F_IN = 1,
    BOX_F_OUT = 2,
    BOX_F_ERR = 4,
    BOX_F_TTY = 8,
    BOX_F_PIDNS = 16,
    BOX_F_PRIVILEGED = 32,
    BOX_F_MAKE_CWD = 64,
    BOX_F_MEMFD = 128,
    BOX_F_GROUP = 256,
    BOX_F_RDONLY = 512,
    BOX_F_NOSUID = 1024,
    BOX_F_NODEV = 2048,
    BOX_F_NOEXEC = 4096,
    BOX_F_STUB = 8192,
    BOX_F_JOIN = 16384,   /* EXEC: into the namespaces of the process num[3] */
    BOX_F_STARTED = 32768, /* EXEC: a descriptor after those of in, out, err, closed by the exec */
};
struct box_req {
    uint32_t magic, kind, flags;
    uint32_t n_argv, n_env; /* strings before str1 (cwd, path, target) and str2 (user, options) */
    uint32_t len;           /* bytes of strings */
    int64_t num[4];
    uint64_t caps;
};

enum box_rep_kind { BOX_DONE = 1, BOX_PID, BOX_READY, BOX_FAILED, BOX_NOEXEC, BOX_EXIT };
struct box_rep {
    uint32_t kind;
    int32_t
        value; /* DONE: 0 or -errno (MOUNT: number of path parts made); PID; EXIT: wait status */
    int32_t errnum; /* FAILED, NOEXEC: positive errno */
    char text[500]; /* what failed */
};
