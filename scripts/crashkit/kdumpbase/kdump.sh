#!/bin/sh
# The part of kdump-utils' kdump.sh that saves a dump: the same commands, names and
# order, but larger blocks for dd: with 512 bytes QEMU takes a minute. The script
# that sources it sets CORE_COLLECTOR, KDUMP_PATH and HOST_IP.
# shellcheck disable=SC2086,SC2154,SC3040 # CORE_COLLECTOR is words; pipefail is tested for
[ -n "$BASH" ] && set -o pipefail

collect() {
	case $CORE_COLLECTOR in
	*makedumpfile*)
		CORE_COLLECTOR=$(echo "$CORE_COLLECTOR" | sed -e "s/-F//g")
		case $1 in ssh | raw) CORE_COLLECTOR="$CORE_COLLECTOR -F" ;; esac
		;;
	esac
}

# dump_fs MOUNTPOINT
dump_fs() {
	collect fs
	dir=$(echo "$1/$KDUMP_PATH/$HOST_IP-$DATEDIR/" | tr -s /)
	mkdir -p "$dir" || return 1
	$CORE_COLLECTOR /proc/vmcore "$dir/vmcore-incomplete" >/dev/console 2>&1 || return 1
	sync -f "$dir/vmcore-incomplete" || return 1
	mv "$dir/vmcore-incomplete" "$dir/vmcore"
}

# dump_ssh DIR: ssh's far end is this machine.
dump_ssh() {
	collect ssh
	dir=$1/$KDUMP_PATH/$HOST_IP-$DATEDIR
	mkdir -p "$dir"
	$CORE_COLLECTOR /proc/vmcore | sh -c "umask 0077 && dd bs=64k of='$dir/vmcore-incomplete'" || return 1
	mv "$dir/vmcore-incomplete" "$dir/vmcore.flat"
}

# dump_raw DEVICE
dump_raw() {
	collect raw
	$CORE_COLLECTOR /proc/vmcore | dd of="$1" bs=64k || return 1
	sync
}

# do_kdump_post STATUS
do_kdump_post() {
	for file in /etc/kdump/post.d/*; do
		"$file" "$1" || echo "kdump: $file exited with $? status"
	done
}
