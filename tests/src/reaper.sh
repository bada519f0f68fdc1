# The last one out. Reads what a test process starts and makes, one line each, and when that process ends, however it
# ends, this script's input ends too: then it ends the services and removes the directories that are left.
#   reaper.sh watch        lines: "watch PID SIGNAL", "forget PID", "remove DIRECTORY"
#   reaper.sh remove DIR   unmounts what is mounted below DIR and removes it
set -u

remove_tree() {
    grep -F " $1/" /proc/self/mountinfo | cut -d ' ' -f 5 | sort -r | while read -r mount; do
        umount -l "$mount"
    done
    rm -rf "$1"
}

watch() {
    trap '' HUP INT TERM
    services="" directories=""
    while read -r verb subject signal; do
        case $verb in
        watch) services="$services $subject:$signal" ;;
        forget)
            kept=""
            for service in $services; do
                [ "${service%%:*}" = "$subject" ] || kept="$kept $service"
            done
            services=$kept
            ;;
        remove) directories="$directories$subject
" ;;
        esac
    done
    for service in $services; do
        kill "-${service#*:}" "${service%%:*}"
    done
    for service in $services; do
        wait_for_end "${service%%:*}" || kill -KILL "${service%%:*}"
    done
    printf '%s' "$directories" | while read -r directory; do
        remove_tree "$directory"
    done
}

# Ten seconds for a service to end: dockerd unmounts and ends its own containerd in that time.
wait_for_end() {
    tries=100
    while kill -0 "$1"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
}

case $1 in
watch) watch ;;
remove) remove_tree "$2" ;;
esac
