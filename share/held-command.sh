#!/bin/sh
# Stands in for a command that can deploy, publish, send or upload. What it is asked for is held
# against the rules beside it; what they do not name goes to the real program.
name=${0##*/}
here=${0%/*}

real() {
    old=$IFS
    IFS=:
    for d in $PATH; do
        [ "$d" = "$here" ] && continue
        if [ -x "$d/$name" ] && [ ! -d "$d/$name" ]; then
            IFS=$old
            exec "$d/$name" "$@"
        fi
    done
    echo "$name: command not found" >&2
    exit 127
}

hold() {
    line=$name
    for a in "$@"; do line="$line $a"; done
    line=$(printf '%s' "$line" | tr '\n\r' '  ' 2>/dev/null | cut -c1-600)
    printf '%s\n' "$line" >>"${RUNNER_TEMP:-${BITBUCKET_PIPELINES_VARIABLES_PATH%/*}}/_runner_file_commands/held"
    echo "slipway: held back: $line" >&2
    if [ -p /dev/stdin ]; then cat >/dev/null; fi
    exit 0
}

# Is this host the job itself, or one of its containers?
near() {
    h=${1##*@}
    case $h in
    localhost | 127.* | ::1 | "[::1]") return 0 ;;
    esac
    [ -r /etc/hosts ] || return 1
    while read -r _ names; do
        for n in $names; do [ "$n" = "$h" ] && return 0; done
    done </etc/hosts
    return 1
}

# The words of a rule in the order of the arguments; what follows an option may be its value.
matches() {
    want=$1
    shift
    first=${want%% *}
    rest=${want#"$first"}
    rest=${rest# }
    option=0
    for a in "$@"; do
        if [ -n "$a" ] && [ -z "${a%%-*}" ]; then
            option=1
            case $a in *=*) option=0 ;; esac
            continue
        fi
        case "|$first|" in
        *"|$a|"*)
            [ -z "$rest" ] && return 0
            first=${rest%% *}
            rest=${rest#"$first"}
            rest=${rest# }
            option=0
            ;;
        *)
            [ "$option" = 1 ] || return 1
            option=0
            ;;
        esac
    done
    return 1
}

case $name in
ssh)
    for a in "$@"; do # asked about itself; a fetch of git's
        case $a in
        -V | -Q | -G) real "$@" ;;
        *git-upload-pack*) real "$@" ;;
        esac
    done
    skip=0
    for a in "$@"; do
        if [ "$skip" = 1 ]; then skip=0; continue; fi
        case $a in
        -[BbcDEeFIiJLlmOoPpRSWw]) skip=1 ;;
        -*) ;;
        *) if near "$a"; then real "$@"; else hold "$@"; fi ;;
        esac
    done
    real "$@"
    ;;
scp | rsync)
    skip=0
    for a in "$@"; do
        if [ "$skip" = 1 ]; then skip=0; continue; fi
        case $a in
        -e | -i | -o | -P | -F | -J | -S | -c | --rsh) skip=1 ;;
        -* | /* | ./* | ../*) ;;
        rsync://* | scp://*) hold "$@" ;;
        *:*) near "${a%%:*}" || hold "$@" ;;
        esac
    done
    real "$@"
    ;;
sftp)
    for a in "$@"; do
        case $a in
        -*) ;;
        *@* | *:*) near "${a%%:*}" || hold "$@" ;;
        esac
    done
    real "$@"
    ;;
esac

case "$name $1" in
"gh api")
    for a in "$@"; do
        case $a in
        -X | --method) method=next ;;
        GET | HEAD) [ "$method" = next ] && method=read ;;
        -X?* | --method=*) case $a in *GET | *HEAD) method=read ;; *) method=write ;; esac ;;
        -f | -F | -f?* | -F?* | --field* | --raw-field* | --input*) [ -n "$method" ] || method=write ;;
        esac
    done
    case $method in "" | read) real "$@" ;; *) hold "$@" ;; esac
    ;;
*" --help" | *" --version" | *" -h") real "$@" ;;
esac

while read -r cmd words; do
    [ "$cmd" = "$name" ] || continue
    if [ -z "$words" ] || matches "$words" "$@"; then hold "$@"; fi
done <"$here/.rules"
real "$@"
