#include "test.h"

#include "base/zip.h"
#include "core/fs.h"
#include "core/proc.h"

static struct err e;
static char top[32];

static int fresh(const char *name) {
    if (!top[0]) {
        memcpy(top, "/tmp/test-zip-XXXXXX", 21);
        if (!mkdtemp(top))
            abort();
    }
    _cleanup_free_ char *p = xasprintf("%s/%s", top, name);
    return open(p, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}
static int sink(void *arg, const void *p, size_t n) {
    buf_add(arg, p, n);
    return 0;
}
static void fill(int fd, size_t n, unsigned kind) {
    _cleanup_free_ char *b = xmalloc(n + 1);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        b[i] = kind ? (char)(x >> 24) : (char)("hello zip world "[i % 16] + (i >> 18));
    }
    CHECK_INT(fd_write_all(fd, b, n), 0);
    CHECK_INT(lseek(fd, 0, SEEK_SET), 0);
}

TEST(round_trip) {
    static const size_t sizes[] = {0, 1, 100, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20};
    for (int level = 0; level <= 9; level += 3) {
        int fd = fresh("a.zip");
        struct zip_writer *w;
        uint64_t size;
        char digest[DIGEST_LEN + 1], again[DIGEST_LEN + 1];
        CHECK_INT(zip_writer_new(&w, fd, level), 0);
        for (size_t i = 0; i < ELEMENTS(sizes) * 2; i++) {
            int f = fresh("src");
            char name[32];
            fill(f, sizes[i / 2], i & 1);
            snprintf(name, sizeof name, "d/f%zu", i);
            CHECK_INT(zip_add(w, name, f, 1700000000, &e), 0);
            close(f);
        }
        CHECK_INT(zip_add_dir(w, "empty", 1700000000, &e), 0);
        CHECK_INT(zip_end(w, &size, digest, &e), 0);
        zip_writer_free(w);
        lseek(fd, 0, SEEK_SET);
        uint64_t real;
        CHECK_INT(digest_of_fd(fd, again, &real), 0);
        CHECK_STR(digest, again);
        CHECK_INT(size, real);
        struct zip z;
        _cleanup_arena_ struct arena a = {0};
        CHECK_INT(zip_open(&z, fd, NULL, &a, &e), 0);
        CHECK_INT(z.n, ELEMENTS(sizes) * 2 + 1);
        for (size_t i = 0; i + 1 < z.n; i++) {
            _cleanup_buf_ struct buf b = BUF_LARGE, want = BUF_LARGE;
            CHECK_INT(zip_read(&z, &z.entries[i], sink, &b, &e), 0);
            int f = fresh("src");
            fill(f, sizes[i / 2], i & 1);
            CHECK_INT(fs_read_fd(f, &want), 0);
            CHECK(b.n == want.n && (!b.n || memcmp(b.p, want.p, b.n) == 0));
            CHECK_INT(z.entries[i].mtime, 1700000000);
            close(f);
        }
        CHECK(z.entries[z.n - 1].dir);
        /* A program of others reads it too. */
        _cleanup_free_ char *path = xasprintf("%s/a.zip", top);
        _cleanup_buf_ struct buf out = BUF_LARGE;
        CHECK_INT(proc_output(&out, &e, "python3", "-c", "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(len(z.namelist()))", path, NULL), 0);
        CHECK_STR(buf_str(&out), "15");
        close(fd);
    }
    fs_rmtree(AT_FDCWD, top);
    top[0] = 0;
}

/* What python makes (data descriptors, comments), and hostile ones made of it. */
static const char make[] =
    "import sys,zipfile,struct,io\n"
    "kind,path=sys.argv[1:]\n"
    "b=io.BytesIO()\n"
    "class W:\n"
    "  def write(s,d): return b.write(d)\n"
    "  def flush(s): pass\n"
    "z=zipfile.ZipFile(W() if kind=='stream' else b,'w',zipfile.ZIP_DEFLATED)\n"
    "z.writestr('a.txt','hello'*1000); z.writestr('d/b','x'); z.comment=b'hi'\n"
    "if kind=='slip': z.writestr('../../evil','x')\n"
    "if kind=='many': [z.writestr(str(i),'') for i in range(70000)]\n"
    "z.close(); d=bytearray(b.getvalue())\n"
    "if kind=='overlap':\n"
    "  i=d.rindex(b'PK\\x01\\x02'); d[i+42:i+46]=struct.pack('<I',0)\n"
    "if kind=='huge':\n"
    "  i=d.index(b'PK\\x01\\x02'); d[i+24:i+28]=struct.pack('<I',0xfffffff0)\n"
    "if kind=='crc':\n"
    "  i=d.index(b'PK\\x01\\x02'); d[i+16]^=1\n"
    "if kind=='cut': d=d[:-30]\n"
    "if kind=='size':\n"
    "  i=d.index(b'PK\\x01\\x02'); d[i+24:i+28]=struct.pack('<I',4000)\n"
    "open(path,'wb').write(d)\n";

static int opened(const char *kind, struct zip *z, struct arena *a, uint64_t bytes) {
    _cleanup_free_ char *path = xasprintf("%s/%s", top, kind);
    close(fresh(kind));
    _cleanup_free_ char *p2 = xasprintf("%s/%s", top, kind);
    CHECK_INT(proc_output(NULL, &e, "python3", "-c", make, kind, p2, NULL), 0);
    int fd = open(p2, O_RDONLY | O_CLOEXEC);
    struct zip_limits l = {.bytes = bytes};
    return zip_open(z, fd, &l, a, &e);
}

TEST(others) {
    static const char *const good[] = {"plain", "stream", "many", "slip"};
    _cleanup_arena_ struct arena a = {0};
    struct zip z;
    for (size_t i = 0; i < ELEMENTS(good); i++) {
        _cleanup_buf_ struct buf b = BUF_LARGE;
        CHECK_INT(opened(good[i], &z, &a, 0), 0);
        CHECK_INT(zip_read(&z, &z.entries[0], sink, &b, &e), 0);
        CHECK_INT(b.n, 5000);
        CHECK_STR(z.entries[1].name, "d/b");
        close(z.fd);
    }
    CHECK_INT(opened("overlap", &z, &a, 0), -EBADMSG);
    CHECK_INT(opened("cut", &z, &a, 0), -EBADMSG);
    CHECK_INT(opened("huge", &z, &a, 1 << 30), -EFBIG);
    CHECK_INT(opened("plain", &z, &a, 4000), -EFBIG);
    static const char *const bad[] = {"crc", "size"};
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        _cleanup_buf_ struct buf b = BUF_LARGE;
        CHECK_INT(opened(bad[i], &z, &a, 0), 0);
        CHECK_INT(zip_read(&z, &z.entries[0], sink, &b, &e), -EBADMSG);
        close(z.fd);
    }
    fs_rmtree(AT_FDCWD, top);
    static const char *const names[] = {"/a", "a/../b", "..", "c:/x", "a\\b", ""};
    for (size_t i = 0; i < ELEMENTS(names); i++)
        CHECK(!zip_name_ok(names[i]));
    CHECK(zip_name_ok("a/..b/c..") && zip_name_ok(".x"));
}
