# Prints "ready", then reads an agent from stdin and stores it: $2 bytes, built for the
# machine $3, under the name $1. Exits with 70 and a reason on stderr if a later
# attempt would fail too, and with 71 if a later attempt may succeed.
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
# An attempt that ends early leaves no file.
trap '[ -z "$part" ] || rm -f "$part"' EXIT
trap 'exit 71' HUP INT PIPE TERM
for base in "" /run /var/tmp /tmp /dev/shm; do
    directory=$base/.hutch
    # Not in the working directory: searches would find the agent there.
    [ "$base" != "${PWD%/}" ] || continue
    mkdir -p "$directory" 2>/dev/null && [ ! -L "$directory" ] && [ -O "$directory" ] || continue
    # A killed script leaves its part, named after its process ID. Remove it if that
    # process is gone.
    for old in "$directory"/.part.*; do
        [ -d "/proc/${old##*.part.}" ] || rm -f "$old"
    done
    part=$directory/.part.$$
    # A directory may be writable and still not allow programs (noexec).
    if chmod 700 "$directory" && printf 'exit 0\n' >"$part" && chmod 700 "$part" && "$part"; then
        break
    fi 2>/dev/null
    rm -f "$part"
    rmdir "$directory" 2>/dev/null
    part=
done
if [ -z "$part" ]; then
    echo "no directory that programs can be put into and run from: mount an emptyDir at /tmp" >&2
    exit 70
fi
echo ready
# Read all bytes even if there is no space to store them.
head -c "$2" | { cat >"$part" || cat >/dev/null; }
if [ "$(wc -c <"$part")" -ne "$2" ]; then
    echo "the agent did not arrive whole" >&2
    exit 71
fi
if ! said=$("$part" --version 2>&1); then
    echo "the agent does not run in it: $said" >&2
    exit 70
fi
for old in "$directory"/hutch-agent-*; do
    [ "$old" = "$directory/$1" ] || rm -f "$old"
done
mv -f "$part" "$directory/$1" && part=
