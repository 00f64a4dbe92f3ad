{ \set +e +f +u +v +x; } 2>/dev/null
{
\unset -f printf pwd
eval "$__hutch_r"
\printf '%s\n' @MARK@
\pwd
\printf '%s\n' @MARK@
\export -p
for __hutch_n in @NAMES@; do
eval "[ \"\${$__hutch_n+x}\" ]" || \printf 'unset %s\n' "$__hutch_n"
done
\printf '%s\n' @MARK@
} >|@OUT@ 2>/dev/null
