{ __hutch_c=$? __hutch_e=${#BASH_SOURCE[@]} __hutch_m=@MARK@ __hutch_o=$SHELLOPTS __hutch_b=$BASHOPTS; POSIXLY_CORRECT=y; \set +aefkuvxCET; } >/dev/null 2>&1
{
{ \:; } >&104 || \exec 104>|@OUT@
\unset -f declare
\unset -f .
\declare -p __hutch_m >&104
\declare -f >&104
\declare -Fx >&104
\declare -p __hutch_m >&104
\unset -f builtin echo printf pwd umask
\unset -f continue trap unset
\unset POSIXLY_CORRECT
\trap - EXIT DEBUG RETURN
\trap -p >&104
\declare -p __hutch_m >&104
\umask -p >&104
\trap - ERR
\declare -p __hutch_m >&104
\pwd >&104
\declare -p __hutch_m >&104
\declare -p >&104
\declare -p __hutch_m >&104
for __hutch_n in "${!BASH_ALIASES[@]}"; do
\printf 'BASH_ALIASES[%q]=%q\n' "$__hutch_n" "${BASH_ALIASES[$__hutch_n]}" >&104
done
\declare -p __hutch_m >&104
case $__hutch_e in 0) \trap '' PIPE; \declare -p __hutch_c >&100 ;; esac
} >/dev/null 2>&1
