# Takes an agent from stdin, once it has said on stdout that it is ready: $2 bytes,
# for machines $3, to be named $1. Exits with 70 where the same will not work later
# either, and says why on stderr.
umask 077
machine=$(uname -m 2>/dev/null) || machine=
if [ -n "$3" ] && [ -n "$machine" ] && [ "$machine" != "$3" ]; then
    echo "the agent is for $3 and the container's node is $machine: set --agent-binary to one for it" >&2
    exit 70
fi
for tool in cat chmod head mkdir mv rm wc; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "the image has no $tool: use one that has it, or leave container_name empty" >&2
        exit 70
    fi
done
part=
# Of an attempt that ends before its time nothing is left.
trap '[ -z "$part" ] || rm -f "$part"' EXIT
trap 'exit 71' HUP INT PIPE TERM
for base in "" /run /var/tmp /tmp /dev/shm; do
    folder=$base/.hutch
    # What is searched is not to have it.
    [ "$base" != "${PWD%/}" ] || continue
    mkdir -p "$folder" 2>/dev/null && [ ! -L "$folder" ] && [ -O "$folder" ] || continue
    # Of one that was killed only its process id tells.
    for old in "$folder"/.part.*; do
        [ -d "/proc/${old##*.part.}" ] || rm -f "$old"
    done
    part=$folder/.part.$$
    # Where files can be written, programs may still not run.
    if chmod 700 "$folder" && printf 'exit 0\n' >"$part" && chmod 700 "$part" && "$part"; then
        break
    fi 2>/dev/null
    rm -f "$part"
    rmdir "$folder" 2>/dev/null
    part=
done
if [ -z "$part" ]; then
    echo "no folder that programs can be put into and run from: mount an emptyDir at /tmp" >&2
    exit 70
fi
echo ready
# All bytes are taken, also where there is no room for them.
head -c "$2" | { cat >"$part" || cat >/dev/null; }
if [ "$(wc -c <"$part")" -ne "$2" ]; then
    echo "the agent did not arrive whole" >&2
    exit 71
fi
if ! said=$("$part" --version 2>&1); then
    echo "the agent does not run in it: $said" >&2
    exit 70
fi
for old in "$folder"/hutch-agent-*; do
    [ "$old" = "$folder/$1" ] || rm -f "$old"
done
mv -f "$part" "$folder/$1" && part=
