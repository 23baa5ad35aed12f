/* slipway completion bash|zsh|fish: prints the shell's completion script. Options are asked from
 * `slipway COMMAND --help`, so the scripts need no change when commands do. */
#include "cli/opts.h"
#include "cli/term.h"

static const char bash[] =
    "_slipway() {\n"
    "  local cur=${COMP_WORDS[COMP_CWORD]} words\n"
    "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
    "    words=$(slipway --help | sed -n 's/^  \\([a-z][a-z-]*\\) .*/\\1/p')\n"
    "  elif [[ $cur == -* ]]; then\n"
    "    words=$(slipway \"${COMP_WORDS[1]}\" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*')\n"
    "  else\n"
    "    COMPREPLY=($(compgen -f -- \"$cur\")); return\n"
    "  fi\n"
    "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
    "}\n"
    "complete -o filenames -F _slipway slipway\n";
static const char zsh[] =
    "#compdef slipway\n"
    "_slipway() {\n"
    "  if (( CURRENT == 2 )); then\n"
    "    compadd -- ${(f)\"$(slipway --help | sed -n 's/^  \\([a-z][a-z-]*\\) .*/\\1/p')\"}\n"
    "  elif [[ $PREFIX == -* ]]; then\n"
    "    compadd -- ${(f)\"$(slipway $words[2] --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*')\"}\n"
    "  else _files; fi\n"
    "}\n"
    "compdef _slipway slipway\n";
static const char fish[] =
    "complete -c slipway -n __fish_use_subcommand -f -a \"(slipway --help | sed -n 's/^  \\([a-z][a-z-]*\\) .*/\\1/p')\"\n"
    "complete -c slipway -n 'not __fish_use_subcommand' -a \"(slipway (commandline -opc)[2] --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*')\"\n";

int cmd_completion(int argc, char **argv);
int cmd_completion(int argc, char **argv) {
    static const struct opts o = {.usage = "completion bash|zsh|fish", .about = "Prints a completion script."};
    int n, r = opts_begin(&o, argc, argv, &n);
    if (r >= 0)
        return r;
    const char *shell = n == 1 ? argv[1] : "";
    if (streq(shell, "bash"))
        fputs(bash, stdout);
    else if (streq(shell, "zsh"))
        fputs(zsh, stdout);
    else if (streq(shell, "fish"))
        fputs(fish, stdout);
    else {
        struct err e;
        err_set(&e, ERR_USER, -EINVAL, "name one shell: bash, zsh or fish");
        return cli_fail(&e);
    }
    return 0;
}
