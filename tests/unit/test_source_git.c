#include "core/fs.h"
#include "core/proc.h"
#include "source/git.h"
#include "test.h"

static char dir[64];

static void sh(const char *script) {
    char *all = xasprintf("cd %s && export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@x "
                          "GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@x && %s", dir, script);
    const char *argv[] = {"sh", "-e", "-c", all, NULL};
    struct buf out = BUF_SMALL;
    int r = proc_run(&(struct proc_spec){.argv = argv}, SV_NULL, &out, &out, 0, NULL);
    if (r)
        fprintf(stderr, "%s: %s\n", script, buf_str(&out));
    CHECK_INT(r, 0);
    buf_done(&out);
    free(all);
}
static void begin(void) {
    snprintf(dir, sizeof dir, "/tmp/slipway-git-XXXXXX");
    CHECK(mkdtemp(dir));
}
static void end(void) {
    fs_rmtree(AT_FDCWD, dir);
}

TEST(urls) {
    struct { const char *url, *host, *owner, *repo; } t[] = {
        {"https://github.com/acme/app.git", "github.com", "acme", "app"},
        {"https://user:pw@github.com/acme/app/", "github.com", "acme", "app"},
        {"git@github.com:acme/app.git", "github.com", "acme", "app"},
        {"ssh://git@host:2222/group/sub/app.git", "host", "group/sub", "app"},
        {"file:///srv/git/acme/app.git", "", "acme", "app"}};
    for (size_t i = 0; i < ELEMENTS(t); i++) {
        char *h = NULL, *o = NULL, *r = NULL;
        CHECK(git_url_parse(t[i].url, &h, &o, &r));
        CHECK_STR(h, t[i].host);
        CHECK_STR(o, t[i].owner);
        CHECK_STR(r, t[i].repo);
        free(h);
        free(o);
        free(r);
    }
    char *x;
    CHECK(!git_url_parse("/srv/app.git", &x, &x, &x) && !git_url_parse("../app", &x, &x, &x));
}

TEST(not_a_repository_and_no_commit) {
    begin();
    struct git_info g;
    CHECK_INT(git_info_read(dir, &g, NULL), 0);
    CHECK(g.bare_repo_missing);
    git_info_done(&g);
    sh("git init -q -b trunk");
    CHECK_INT(git_info_read(dir, &g, NULL), 0);
    CHECK(!g.bare_repo_missing);
    CHECK_STR(g.branch, "trunk");
    CHECK_STR(g.head_sha, "0000000000000000000000000000000000000000");
    git_info_done(&g);
    end();
}

TEST(reads_worktree_refs_and_changes) {
    begin();
    sh("git init -q -b main && echo one > a && mkdir d && echo '*.log' > .gitignore && echo b > d/b && git add . && git commit -qm 'first\n\nbody' && "
       "git remote add other https://example.org/x/y && git remote add origin git@github.com:acme/app.git && "
       "echo x > x.log && echo new > 'n w' && echo two > a");
    struct git_info g;
    CHECK_INT(git_info_read(dir, &g, NULL), 0);
    CHECK(git_dirty(dir) && g.n_remotes == 2 && !g.parent_sha && !g.upstream);
    CHECK_STR(g.remotes[0].owner, "acme");
    CHECK_STR(g.default_branch, "main");
    CHECK_STR(g.author_name, "a");
    struct strv files = {0}, changed = {0};
    CHECK_INT(git_ls_worktree(dir, false, &files, NULL), 0);
    CHECK(strv_contains(&files, "n w") && strv_contains(&files, "d/b") && !strv_contains(&files, "x.log"));
    CHECK_INT(git_changed(dir, "HEAD", NULL, &changed, NULL), 0);
    strv_sort(&changed);
    CHECK(changed.n == 2 && streq(changed.v[0], "a") && streq(changed.v[1], "n w"));
    struct buf b = BUF_SMALL;
    CHECK_INT(git_show(dir, "main", "a", &b, NULL), 0);
    CHECK_STR(b.p, "one\n");
    struct err e = {0};
    CHECK_INT(git_show(dir, "main", "zz", &b, &e), -ENOENT);
    char sha[41];
    CHECK(git_resolve(dir, "--help", sha, &e) < 0 && git_resolve(dir, "nope", sha, &e) == -ENOENT);
    char dest[80];
    snprintf(dest, sizeof dest, "%s/../%s-copy", dir, strrchr(dir, '/') + 1);
    CHECK_INT(git_export(dir, g.head_sha, dest, 1, &e), 0);
    struct git_info c;
    CHECK_INT(git_info_read(dest, &c, NULL), 0);
    CHECK(!git_dirty(dest) && !c.branch && streq(c.head_sha, g.head_sha));
    git_info_done(&c);
    /* a fetch from a URL, then the same offline */
    char cache[100], url[100], *got = NULL;
    snprintf(cache, sizeof cache, "%s/cache", dest);
    snprintf(url, sizeof url, "file://%s", dir);
    CHECK_INT(git_fetch(url, "main", cache, false, &got, sha, &e), 0);
    CHECK_STR(sha, g.head_sha);
    free(got);
    got = NULL;
    CHECK_INT(git_fetch(url, "main", cache, true, &got, sha, &e), 0);
    free(got);
    CHECK(git_fetch(url, "nope", cache, true, &got, sha, &e) < 0);
    CHECK(git_fetch(url, "nope", cache, false, &got, sha, &e) < 0);
    CHECK(git_fetch("--upload-pack=x", "main", cache, false, &got, sha, &e) < 0);
    fs_rmtree(AT_FDCWD, dest);
    git_info_done(&g);
    strv_done(&files);
    strv_done(&changed);
    buf_done(&b);
    end();
}

/* What a repository's own configuration may say before git is let work in it. */
TEST(harmless_configuration) {
    static const char *const bad[] = {"filter.x.smudge 'touch x'", "include.path /tmp/x", "includeIf.gitdir:/.path /tmp/x", "core.sshCommand x",
                                      "remote.o.uploadpack x", "remote.o.promisor true", "extensions.worktreeConfig true", "core.worktree /tmp",
                                      "diff.external x", "credential.helper x"};
    struct err e = {0};
    begin();
    sh("git init -q --bare r.git; git init -q n.git; git -C r.git config remote.origin.url https://x/y; git -C r.git config gc.auto 0");
    char *bare = xasprintf("%s/r.git", dir), *nested = xasprintf("%s/n.git", dir);
    CHECK_INT(git_config_harmless(bare, &e), 0);
    CHECK_INT(git_config_harmless(nested, &e), 0);
    CHECK_INT(git_config_harmless("/proc", &e), -ENOENT);
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        char *set = xasprintf("git -C r.git config %s", bad[i]), *unset = xasprintf("git config -f r.git/config --unset %.*s", (int)strcspn(bad[i], " "), bad[i]);
        sh(set);
        CHECK_INT(git_config_harmless(bare, &e), -EPERM);
        sh(unset);
        CHECK_INT(git_config_harmless(bare, &e), 0);
        free(set);
        free(unset);
    }
    /* the one that git takes, not the one beside it */
    sh("cp r.git/config n.git/config; git -C n.git config filter.x.smudge true");
    CHECK_INT(git_config_harmless(nested, &e), -EPERM);
    free(bare);
    free(nested);
    end();
}
