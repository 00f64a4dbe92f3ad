# Becomes the bridge to this container's agent, by the agent named $1; exits with
# 69 where there is none. A folder counts only if nobody but this user can have put
# something into it: what lies there is run.
for base in "" /run /var/tmp /tmp /dev/shm; do
    folder=$base/.hutch
    if [ -d "$folder" ] && [ ! -L "$folder" ] && [ -O "$folder" ] && [ -x "$folder/$1" ]; then
        exec "$folder/$1" connect --start
    fi
done
exit 69
