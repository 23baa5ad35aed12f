/* What the box uses, from its /proc: resident memory and number of processes, their CPU time and
 * that of those already reaped, and the traffic of its network namespace. */
#include "box/init/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>

static ssize_t slurp(const char *path, char *text, size_t n) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t k = read(fd, text, n - 1);
    close(fd);
    text[k > 0 ? k : 0] = 0;
    return k;
}

static uint64_t ns(struct timeval t) {
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

static void traffic(unsigned long long *rx, unsigned long long *tx) {
    char text[16384];
    *rx = *tx = 0;
    if (slurp("/proc/net/dev", text, sizeof text) <= 0)
        return;
    for (char *line, *rest = text; (line = strsep(&rest, "\n"));) {
        char *colon = strchr(line, ':');
        unsigned long long r, t;
        if (!colon || strstr(line, " lo:"))
            continue;
        if (sscanf(colon + 1, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &r, &t) == 2) {
            *rx += r;
            *tx += t;
        }
    }
}

int stats_text(char *out, size_t n) {
    unsigned long long mem = 0, cpu = 0, pids = 0, rx, tx;
    unsigned long long page = (unsigned long long)sysconf(_SC_PAGESIZE);
    unsigned long long tick = 1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK);
    struct rusage ru;
    DIR *d = opendir("/proc");
    if (!d)
        return -errno;
    for (struct dirent *de; (de = readdir(d));) {
        char path[64], text[1024];
        int pid = atoi(de->d_name);
        unsigned long long ut, st;
        long rss;
        if (pid <= 1)
            continue;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        if (slurp(path, text, sizeof text) <= 0)
            continue;
        char *p = strrchr(text, ')');
        if (!p || sscanf(p + 1,
                         " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d "
                         "%*d %*d %*d %*d %*u %*u %ld",
                         &ut, &st, &rss) != 3)
            continue;
        cpu += (ut + st) * tick;
        mem += rss > 0 ? (unsigned long long)rss * page : 0;
        pids++;
    }
    closedir(d);
    if (getrusage(RUSAGE_CHILDREN, &ru) == 0)
        cpu += ns(ru.ru_utime) + ns(ru.ru_stime);
    traffic(&rx, &tx);
    snprintf(out, n, "%llu %llu %llu %llu %llu", mem, cpu, pids, rx, tx);
    return 0;
}
