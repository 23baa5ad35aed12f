#include "build/dockerfile.h"
#include "build/lint.h"
#include "test.h"

static struct dockerfile *parse(const char *text, struct diags *d, int *r) {
    struct dockerfile *f = NULL;
    *r = dockerfile_parse("Dockerfile", sv_from(text), &f, d);
    return f;
}
#define PARSE(text)                                                                                \
    struct diags d = {0};                                                                          \
    int r;                                                                                         \
    _cleanup_dockerfile_ struct dockerfile *f = parse(text, &d, &r)

TEST(stages) {
    PARSE("ARG V=3.11\nFROM python:${V} AS Builder\nRUN a\nFROM --platform=$BUILDPLATFORM debian\n"
          "COPY --from=builder --chown=1:2 /a /b /c/\n");
    CHECK_INT(r, 0);
    CHECK_INT(f->n_globals, 1);
    CHECK_INT(f->n_stages, 2);
    CHECK_STR(f->stages[0].name, "builder");
    CHECK_STR(f->stages[0].base.s, "python:${V}");
    CHECK_STR(f->stages[1].platform, "$BUILDPLATFORM");
    const struct df_instr *c = f->stages[1].instrs[0];
    CHECK_STR(df_flag(c, "from"), "builder");
    CHECK_STR(df_flag(c, "chown"), "1:2");
    CHECK(!df_flag(c, "chmod"));
    CHECK_INT(c->n_words, 3);
    CHECK_STR(c->words[2].s, "/c/");
    CHECK_INT(c->words[1].at.line, 5);
    CHECK_INT(c->words[1].at.col, 36);
    CHECK_INT(dockerfile_stage(f, "BUILDER", 1), 0);
    CHECK_INT(dockerfile_stage(f, "0", 1), 0);
    CHECK_INT(dockerfile_stage(f, "1", 1), -1);
    diags_done(&d);
}

TEST(continuations) {
    PARSE("FROM a\nRUN apt-get update && \\\n# a comment\n    apt-get install -y \\  \n\n      b \\\n  # more\n  c\nENV A=1 \\\n    B=\"x y\" \\\n    C='z'\n");
    CHECK_INT(r, 0);
    CHECK_STR(f->stages[0].instrs[0]->words[0].s, "apt-get update &&     apt-get install -y       b   c");
    CHECK_INT(f->stages[0].instrs[1]->n_pairs, 3);
    CHECK_STR(f->stages[0].instrs[1]->pairs[1].value, "\"x y\"");
    CHECK_INT(f->stages[0].instrs[1]->pairs[2].at.line, 11);
    CHECK_INT(f->stages[0].instrs[1]->pairs[2].at.col, 5);
    CHECK_INT(d.warnings, 1); /* the empty line */
    diags_done(&d);
}

TEST(escape_directive) {
    PARSE("# escape=`\n# syntax=docker/dockerfile:1\nFROM a\nRUN dir `\n  c:\\x\\\nRUN b\n");
    CHECK_INT(r, 0);
    CHECK(f->escape == '`');
    CHECK_STR(f->syntax, "docker/dockerfile:1");
    CHECK_STR(f->stages[0].instrs[0]->words[0].s, "dir   c:\\x\\");
    CHECK_INT(f->stages[0].n_instrs, 2);
    diags_done(&d);
}

TEST(foreign_syntax_is_refused) {
    PARSE("# syntax=evil.example/front:1\nFROM a\n");
    CHECK_INT(r, -EBADMSG);
    CHECK_INT(d.items[0].at.line, 1);
    diags_done(&d);
}

TEST(json_forms) {
    PARSE("FROM a\nCMD [\"x\", \"y z\"]\nENTRYPOINT [x\nSHELL [\"/bin/bash\",\"-c\"]\nCOPY [\"a b\",\"/c d/\"]\nVOLUME [\"/v\"]\n");
    CHECK_INT(r, 0);
    struct df_instr **i = f->stages[0].instrs;
    CHECK(i[0]->json && i[0]->n_words == 2);
    CHECK_STR(i[0]->words[1].s, "y z");
    CHECK(!i[1]->json);
    CHECK_STR(i[1]->words[0].s, "[x");
    CHECK_INT(i[2]->n_words, 2);
    CHECK_STR(i[3]->words[0].s, "a b");
    CHECK_STR(i[4]->words[0].s, "/v");
    diags_done(&d);
}

TEST(heredocs) {
    PARSE("FROM a\nRUN <<EOF\necho 1\n# kept\nFROM x\nEOF\nRUN <<-\"E 1\" cat > /x && cat <<E2 >/y\n\ta\n\tE 1\n$b\nE2\n"
          "COPY <<one <<'two' /d/\n1 $x\none\n2\ntwo\nRUN echo \"<<NOT\" && cat <<< x\nUSER u\n");
    CHECK_INT(r, 0);
    struct df_instr **i = f->stages[0].instrs;
    CHECK_INT(f->stages[0].n_instrs, 5);
    CHECK_INT(i[0]->n_heredocs, 1);
    CHECK_STR(i[0]->heredocs[0].data.p, "echo 1\n# kept\nFROM x\n");
    CHECK(i[0]->heredocs[0].expand);
    CHECK_INT(i[1]->n_heredocs, 2);
    CHECK_STR(i[1]->heredocs[0].name, "E 1");
    CHECK(i[1]->heredocs[0].chomp && !i[1]->heredocs[0].expand);
    CHECK_STR(df_heredoc_text(&f->arena, &i[1]->heredocs[0]).p, "a\n");
    CHECK_STR(i[1]->heredocs[1].data.p, "$b\n");
    CHECK_INT(i[2]->n_heredocs, 2);
    CHECK_INT(i[2]->n_words, 3);
    CHECK(!i[2]->heredocs[1].expand);
    CHECK_INT(i[3]->n_heredocs, 0);
    diags_done(&d);
}

TEST(errors_in_one_pass) {
    PARSE("FROM a\nRUNN x\nCOPY a\nENV A\nENV A=1 B\nCMD [1]\nSHELL x\nLABEL =x\nUSER\nFROM b c\nRUN --bad=1 x\n"
          "HEALTHCHECK --interval=x CMD y\nONBUILD FROM x\nEXPOSE\nCOPY --from a b\nRUN <<E\nx\n");
    CHECK_INT(r, -EBADMSG);
    CHECK_INT(d.errors, 15);
    CHECK_INT(d.items[0].at.line, 2);
    CHECK_STR(d.items[0].hint, "did you mean RUN?");
    diags_done(&d);
}

static const char *rules_of(struct diags *d, struct buf *out) {
    buf_reset(out);
    diags_sort(d);
    for (size_t i = 0; i < d->n; i++)
        buf_addf(out, "%u %s\n", d->items[i].at.line, d->items[i].code ? d->items[i].code : d->items[i].msg);
    return buf_str(out);
}

TEST(lint_rules_of_the_file) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    PARSE("FROM a As Base\nenv A b\nRUN x \\\n\n y\nCMD a\nCMD b\nMAINTAINER me\nARG DB_PASSWORD\nENV PUBLIC_KEY=1 token=2 KEYS=3\n"
          "FROM b AS context\nFROM c AS base\n");
    CHECK_INT(r, 0);
    CHECK_STR(rules_of(&d, &b), "1 FromAsCasing\n1 StageNameCasing\n2 ConsistentInstructionCasing\n2 LegacyKeyValueFormat\n"
              "4 NoEmptyContinuation\n6 MultipleInstructionsDisallowed\n8 MaintainerDeprecated\n9 SecretsUsedInArgOrEnv\n"
              "10 SecretsUsedInArgOrEnv\n11 ReservedStageName\n12 DuplicateStageName\n");
    CHECK_STR(d.items[1].msg, "Stage name 'Base' should be lowercase");
    CHECK_STR(d.items[2].msg, "Command 'env' should match the case of the command majority (uppercase)");
    diags_done(&d);
}

TEST(lint_is_skipped_where_asked) {
    _cleanup_buf_ struct buf b = BUF_SMALL;
    {
        PARSE("# check=skip=StageNameCasing,Other;error=true\nFROM a AS Base\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nENV A b\n");
        CHECK_INT(r, 0);
        CHECK_INT(lint_filter(f, NULL, &d, 0), -EBADMSG);
        CHECK_STR(rules_of(&d, &b), "1 lint violation found for rules: LegacyKeyValueFormat\n5 LegacyKeyValueFormat\n");
        diags_done(&d);
    }
    {
        PARSE("# check=skip=all\nFROM a AS Base\nENV A b\n");
        CHECK_INT(r, 0);
        CHECK_INT(lint_filter(f, NULL, &d, 0), 0);
        CHECK_INT(d.n, 0);
        diags_done(&d);
    }
    {
        PARSE("# check=skip=all\nFROM a AS Base\n# something\nARG X\n#\nARG Y\n# Z what it is for\nARG Z\n");
        CHECK_INT(r, 0);
        CHECK_INT(lint_filter(f, "experimental=all", &d, 0), 0); /* the option replaces the file's */
        CHECK_STR(rules_of(&d, &b), "2 StageNameCasing\n4 InvalidDefinitionDescription\n");
        CHECK_INT(lint_filter(f, "nonsense", &d, 0), -EBADMSG);
        diags_done(&d);
    }
}

TEST(suggestions) {
    const char *const names[] = {"DJANGO_ENV", "PATH", NULL};
    CHECK_STR(lint_suggest(SV("DJANG_ENV"), names), "DJANGO_ENV");
    CHECK(!lint_suggest(SV("PATH"), names));
    CHECK(!lint_suggest(SV("OTHER"), names));
}

TEST(no_from) {
    PARSE("# only a comment\n");
    CHECK_INT(r, -EBADMSG);
    CHECK_INT(d.errors, 1);
    diags_done(&d);
}

TEST(env_forms) {
    PARSE("FROM a\nENV K a value with = and  blanks\nENV A=1 B=\"2 3\" C=4\\ 5\nLABEL \"a b\"=c\nARG X Y=1\n");
    CHECK_INT(r, 0);
    struct df_instr **i = f->stages[0].instrs;
    CHECK_STR(i[0]->pairs[0].key, "K");
    CHECK_STR(i[0]->pairs[0].value, "a value with = and  blanks");
    CHECK_STR(i[1]->pairs[2].value, "4\\ 5");
    CHECK_STR(i[2]->pairs[0].key, "\"a b\"");
    CHECK(!i[3]->pairs[0].value);
    CHECK_STR(i[3]->pairs[1].value, "1");
    diags_done(&d);
}

TEST(healthcheck) {
    PARSE("FROM a\nHEALTHCHECK --interval=1m30s --timeout=500ms --retries=4 CMD curl -f x || exit 1\nHEALTHCHECK NONE\n");
    CHECK_INT(r, 0);
    struct df_instr **i = f->stages[0].instrs;
    CHECK(i[0]->health.interval_ns == 90000000000u);
    CHECK(i[0]->health.timeout_ns == 500000000u);
    CHECK_INT(i[0]->health.retries, 4);
    CHECK_STR(i[0]->words[0].s, "curl -f x || exit 1");
    CHECK(i[1]->health.none);
    diags_done(&d);
}

TEST(onbuild) {
    PARSE("FROM a\nONBUILD COPY --chown=1 a \\\n  b\nONBUILD RUN <<E\nx\nE\n");
    CHECK_INT(r, 0);
    struct df_instr **i = f->stages[0].instrs;
    CHECK_INT(i[0]->sub->op, DF_COPY);
    CHECK_STR(i[0]->onbuild_text, "COPY --chown=1 a   b");
    CHECK_INT(i[0]->sub->words[1].at.line, 3);
    CHECK_STR(i[1]->sub->heredocs[0].data.p, "x\n");
    struct df_instr *one = NULL;
    CHECK_INT(dockerfile_parse_one(f, "ONBUILD of a", SV("RUN <<E\ny\nE"), &one, &d), 0);
    CHECK(one && one->n_heredocs == 1);
    diags_done(&d);
}
