#!/bin/sh
# Runs in the capture kernel of the case dracut: saves a dump to each kind of
# target, and writes a line for each to results. The second disk is mounted as the
# dump target. The guest's root file system, which dracut mounts, is mounted only
# for the targets that need it.
# shellcheck disable=SC1091,SC2034,SC2154 # HOST_IP, DATEDIR, dir: kdump.sh's
say() { echo "crashkit: capture $(cut -d' ' -f1 /proc/uptime) $*" >/dev/console; }

umount /sysroot
disk=/kdumproot/dump
mkdir -p $disk
mount -t ext4 /dev/vdb $disk
out=$disk/capture
mkdir -p $out
. /usr/bin/kdump.sh
HOST_IP=127.0.0.1

# target NAME STATUS WORDS LINE DUMP...: with LINE in kdump.conf, DUMP must end
# with STATUS; then the hook must print one line, with WORDS.
target() {
	name=$1 want=$2 words=$3 line=$4
	shift 4
	printf '%s\n' "# made for $name" "$line" "path $KDUMP_PATH" "core_collector $CORE_COLLECTOR" >/etc/kdump.conf
	DATEDIR=$(date +%Y-%m-%d-%T)
	say "$name"
	status=0
	"$@" || status=$?
	do_kdump_post $status >"$out/$name.post" 2>&1
	if [ $status = "$want" ] && grep -q "$words" "$out/$name.post" && [ "$(grep -c '' "$out/$name.post")" = 1 ]; then
		echo "ok capture: $name"
	else
		echo "FAIL capture: $name: status $status, expected $want; said: $(cat "$out/$name.post")"
	fi >>$out/results
	[ ! -e "$dir/vmcore" ] || ln "$dir/vmcore" "$disk/$name" || cp "$dir/vmcore" "$disk/$name"
}

KDUMP_PATH=/var/crash
CORE_COLLECTOR='makedumpfile -c -d 31 --message-level 4'
target local 0 'record /etc/vmcsnote/record.*VMCSINFO added' 'ext4 /dev/vdb' dump_fs $disk
CORE_COLLECTOR='vmcsnote-collector makedumpfile -c -d 31 --message-level 4'
target remote 0 'ssh, and vmcsnote-collector saw to it' 'ssh root@192.0.2.1' dump_ssh $disk/remote
target raw 0 'raw, and vmcsnote-collector saw to it' 'raw /dev/vdc' dump_raw $disk/raw
CORE_COLLECTOR='vmcsnote-collector makedumpfile --no-such-option'
target failed 1 'no dump was saved (status 1)' 'ssh root@192.0.2.1' dump_ssh $disk/failed

mount -t ext4 /dev/vda /sysroot
CORE_COLLECTOR='cp'
target root 0 'record /sysroot/etc/vmcsnote/record.*VMCSINFO added' '# the root file system' dump_fs /sysroot
umount /sysroot

# Without any record.
mv /etc/vmcsnote/record /tmp
CORE_COLLECTOR='makedumpfile -E -d 31 --message-level 4'
target without 0 'vmcore stays as it is: no VMCSINFO available' 'ext4 /dev/vdb' dump_fs $disk
CORE_COLLECTOR='vmcsnote-collector makedumpfile -E -d 31 --message-level 4'
target remote-without 0 'vmcsnote-collector saw to it' 'ssh root@192.0.2.1' dump_ssh $disk/remote-without

mount -t ext4 /dev/vda /sysroot
mkdir -p /sysroot/out/capture
cp $out/* /sysroot/out/capture/
echo 'done capture' >>/sysroot/out/capture/results
umount /sysroot $disk
say 'done'
sync
echo b >/proc/sysrq-trigger
