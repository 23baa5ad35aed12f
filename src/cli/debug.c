#include "cli/debug.h"

#include "cli/relay.h"
#include "cli/term.h"
#include "core/fs.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define IDLE (4ull * 3600 * 1000000000ull)

volatile int run_debug_interrupted;

static bool one_shell(const struct run_stop *at) {
    struct run_shell *s;
    struct err e = {0};
    uint16_t rows, cols;
    int tty;
    relay_size(&rows, &cols);
    if (run_shell_open(at, NULL, rows, cols, NULL, &s, &tty, &e) < 0) {
        cli_fail(&e);
        return false;
    }
    relay_terminal(tty, run_shell_fd(s));
    run_shell_end(s);
    return true;
}

/* The first letter of a line; 0: none; -1: interrupted, or nobody is there any more. */
static int letter(void) {
    char line[64];
    for (struct pollfd p = {0, POLLIN, 0};;) {
        int n = poll(&p, 1, 200);
        if (run_debug_interrupted)
            return -1;
        if (n <= 0)
            continue;
        ssize_t k = read(0, line, sizeof line - 1);
        if (k <= 0)
            return -1;
        for (ssize_t i = 0; i < k; i++)
            if (line[i] > ' ')
                return line[i] | 32;
        return 0;
    }
}

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER; /* question at a time */

int run_debug_approve(struct ui *u, const char *job, const char *environment) {
    pthread_mutex_lock(&one);
    ui_pause(u);
    printf("%s: the environment \"%s\" is protected. Go on? [y/N] ", job, environment);
    fflush(stdout);
    int yes = letter() == 'y';
    ui_resume(u);
    pthread_mutex_unlock(&one);
    return yes;
}

/* A letter, or 's' when the run was interrupted or nobody is there any more. */
static int question(const struct run_stop *at) {
    printf("%s: [c] %s, [r] %s, [s] stop the run, [o] open the shell again? ", at->job, at->failed ? "go on" : "run the step",
           at->failed ? "repeat the step" : "run the step");
    fflush(stdout);
    int c = letter();
    return c < 0 ? 's' : c ? c : 'c';
}

enum run_go run_debug_stop(void *arg, const struct run_stop *at) {
    enum run_go go = RUN_GO_ON;
    pthread_mutex_lock(&one);
    ui_pause(arg);
    printf("\n%s: %s step %u, %s. Leave the shell to decide what comes next.\n", at->job, at->failed ? "failed at" : "before", at->no, at->step);
    fflush(stdout);
    bool open = true;
    for (bool asked = false; !asked;) {
        if (open)
            one_shell(at);
        open = false;
        asked = true;
        switch (question(at)) {
        case 'r':
            go = at->failed ? RUN_REPEAT : RUN_GO_ON;
            break;
        case 's':
            go = RUN_STOP;
            break;
        case 'c':
            break;
        case 'o':
            open = true;
            /* fall through */
        default:
            asked = false;
        }
    }
    ui_resume(arg);
    pthread_mutex_unlock(&one);
    return go;
}

/* --- --keep ------------------------------------------------------------------------------------ */

static volatile pid_t child;
static void forward(int signo) { kill(child, signo); }

static void front(int fd) {
    int code = 0, status;
    signal(SIGINT, SIG_IGN); /* the terminal sends it to the child too */
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, forward);
    ssize_t n;
    do
        n = read(fd, &code, sizeof code);
    while (n < 0 && errno == EINTR);
    if (n == sizeof code)
        _exit(code);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* What the run's helpers inherit must not keep a pipe open whose reader waits for the run's end. */
static void own_output(int fd, FILE **stream) {
    if (isatty(fd))
        return;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 10), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    FILE *f = copy >= 0 && null >= 0 ? fdopen(copy, "w") : NULL;
    if (f) {
        dup2(null, fd);
        setvbuf(f, NULL, fd == 2 ? _IONBF : _IOFBF, 0);
        *stream = f;
    }
    fd_close(null);
}

int keep_begin(void) {
    int fd[2];
    if (pipe2(fd, O_CLOEXEC) < 0)
        return -1;
    fflush(NULL);
    pid_t parent = getpid();
    child = fork();
    if (child < 0) {
        close(fd[0]);
        close(fd[1]);
        return -1;
    }
    if (child > 0) {
        close(fd[1]);
        front(fd[0]);
    }
    close(fd[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* until it is told to stay, it ends with its parent */
    if (getppid() != parent)
        _exit(130);
    own_output(1, &stdout);
    own_output(2, &stderr);
    return fd[1];
}

static void say(void *arg, const char *job, const char *step) {
    printf("kept: %s%s%s\n", job, step ? ", failed at " : "", step ? step : "");
}

struct end { int fd, code; };

/* The parent may go now, and the terminal with it. */
static void released(void *arg) {
    struct end *end = arg;
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && null >= 0; i++)
        dup2(null, i);
    if (fileno(stdout) > 2)
        fclose(stdout);
    if (fileno(stderr) > 2)
        fclose(stderr);
    ssize_t n = write(end->fd, &end->code, sizeof end->code);
    (void)n;
    close(end->fd);
}

void keep_end(struct run *r, int back, int code) {
    struct err e = {0};
    if (!r || !run_kept(r, NULL, NULL)) {
        close(back);
        return;
    }
    run_kept(r, say, NULL);
    printf("slipway shell JOB looks into one; slipway shell --end ends them; so do four hours without a shell\n");
    fflush(stdout);
    setsid();
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, 0);
    struct end end = {back, code};
    if (run_keep_serve(r, IDLE, released, &end, &e) < 0)
        cli_fail(&e);
}
