{ __hutch_m=@MARK@ __hutch_o=$SHELLOPTS __hutch_b=$BASHOPTS; POSIXLY_CORRECT=y; \set +aefkuvxCET; } >/dev/null 2>&1
{
\unset -f declare
\declare -p __hutch_m >&9
\declare -f >&9
\declare -Fx >&9
\declare -p __hutch_m >&9
\unset -f builtin echo printf pwd shopt umask
\unset -f continue trap unset
\unset POSIXLY_CORRECT
\shopt -u nocasematch expand_aliases
\trap - EXIT DEBUG RETURN
\trap -p >&9
\trap - ERR
\declare -p __hutch_m >&9
\pwd >&9
\declare -p __hutch_m >&9
\umask -p >&9
for __hutch_n in "${!_@}" "${!A@}" "${!B@}" "${!C@}" "${!D@}" "${!E@}" "${!F@}" "${!G@}" "${!H@}" "${!I@}" "${!J@}" "${!K@}" "${!L@}" "${!M@}" "${!N@}" "${!O@}" "${!P@}" "${!Q@}" "${!R@}" "${!S@}" "${!T@}" "${!U@}" "${!V@}" "${!W@}" "${!X@}" "${!Y@}" "${!Z@}" "${!a@}" "${!b@}" "${!c@}" "${!d@}" "${!e@}" "${!f@}" "${!g@}" "${!h@}" "${!i@}" "${!j@}" "${!k@}" "${!l@}" "${!m@}" "${!n@}" "${!o@}" "${!p@}" "${!q@}" "${!r@}" "${!s@}" "${!t@}" "${!u@}" "${!v@}" "${!w@}" "${!x@}" "${!y@}" "${!z@}"; do
case $__hutch_n in
BASH_ENV) ;;
_|__hutch_*|BASH|BASH_*|BASHOPTS|BASHPID|COMP_*|COPROC|COPROC_PID|DIRSTACK|EPOCH*|EUID|FUNCNAME|GROUPS|HISTCMD|LINENO|PIPESTATUS|POSIXLY_CORRECT|PPID|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID) \continue ;;
esac
case $__hutch_k in *" $__hutch_n "*) \continue ;; esac
case $BASH_VERSION in
[0-3].*|4.[0-3].*) ;;
*) case ${!__hutch_n@a} in *r*) \continue ;; esac ;;
esac
\declare -p "$__hutch_n" >&9
done
for __hutch_n in @NAMES@; do
case $__hutch_k in *" $__hutch_n "*) \continue ;; esac
[[ -v $__hutch_n ]] || \printf 'unset -v %s\n' "$__hutch_n" >&9
done
\declare -p __hutch_m >&9
\printf 'shopt -u %s\nshopt -s %s\n' "${__hutch_d//:/ }" "${__hutch_b//:/ }" >&9
\declare -p __hutch_m >&9
IFS=:
\printf 'set +o braceexpand +o hashall +o interactive-comments' >&9
for __hutch_n in $__hutch_o; do
case $__hutch_n in
noexec|onecmd|restricted|xtrace|verbose) ;;
*) \printf ' -o %s' "$__hutch_n" >&9 ;;
esac
done
\declare -p __hutch_m >&9
case $__hutch_o in *verbose*) \printf ' -v' >&9 ;; esac
case $__hutch_o in *xtrace*) \printf ' -x' >&9 ;; esac
\declare -p __hutch_m >&9
for __hutch_n in "${!BASH_ALIASES[@]}"; do
\printf 'BASH_ALIASES[%q]=%q\n' "$__hutch_n" "${BASH_ALIASES[$__hutch_n]}" >&9
done
\declare -p __hutch_m >&9
} 9>|@OUT@ >/dev/null 2>&1
