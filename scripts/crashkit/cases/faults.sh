# What can go wrong in a capture kernel: a full or read-only file system, overwritten memory, a bad record.
# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# The module overwrites its note when the kernel panics.
MODULE=scribble=1 APPEND=crash_kexec_post_notifiers DUMPDISK=600M

# reseal FILE: puts the right checksum below a record that has been edited.
reseal() {
	sed -i '/^sha256: /d' "$1"
	echo "sha256: $(sha256sum <"$1" | cut -d' ' -f1)" >>"$1"
}
# forge FILE KEY VALUE...: the record, with other values.
forge() {
	forged=$1
	cp /etc/vmcsnote/record "$forged"
	shift
	while [ $# -gt 0 ]; do
		sed -i "s/^$1: .*/$1: $2/" "$forged"
		shift 2
	done
	reseal "$forged"
}
# room prints what is in use on the disk, in kB.
room() { sync; df -k /dump | tail -n 1 | tr -s ' ' | cut -d' ' -f3; }
# refused STATUS NAME [WAY]: inject leaves every dump, and the room on the disk,
# alone. WAY is the placement for compressed dumps.
refused() {
	for f in elf zlib flat; do
		before=$(room)
		placement=${3:-}
		[ $f != elf ] || placement=
		try "$1" "$2-$f" vmcsnote inject ${placement:+--placement "$placement"} "/dump/$f"
		try 0 "$2-$f-room" test "$(room)" = "$before"
		try 0 "$2-$f-same" cmp "/tmp/$f" "/dump/$f"
	done
}

records() {
	good=/etc/vmcsnote/record
	cp $good /tmp/record
	forge /tmp/other-kernel release 5.14.0-999.el9.x86_64
	forge /tmp/other-boot boot-id 00000000-0000-4000-8000-000000000000 pair '1000000 2000'
	sed 's/^\(note: ..........\)./\1~/' $good >/tmp/corrupt
	head -c 1000 $good >/tmp/torn

	# The memory that the pair leads to is garbage; the record has the note.
	try 1 garbage vmcsnote inject --pair "$pair" -o /dump/none /dump/elf
	says garbage 'no note at'
	try 0 own-note vmcsnote inject -o /dump/elf.own /dump/elf
	says own-note 'the note comes from the record'
	try 0 own-note-inplace vmcsnote inject /dump/zlib.inplace
	says own-note-inplace 'the note comes from the record'

	# Another boot's: the address is stale, the layouts are not.
	cp /tmp/other-boot $good
	try 0 other-boot vmcsnote inject -o /dump/elf.other /dump/elf
	says other-boot 'the note comes from the record'
	says other-boot 'another boot'

	cp /tmp/other-kernel $good
	try 3 other-kernel vmcsnote inject -o /dump/none /dump/elf
	says other-kernel 'is of kernel 5.14.0-999.el9.x86_64, the core of .*: not used'
	try 0 other-kernel-asked vmcsnote inject --record /tmp/other-kernel -o /dump/elf.asked /dump/elf
	says other-kernel-asked 'of another kernel'

	for bad in corrupt torn; do
		cp /tmp/$bad $good
		refused 1 $bad
		try 1 $bad-asked vmcsnote inject --record /tmp/$bad -o /dump/none /dump/elf
	done
	says corrupt-elf 'checksum'
	rm $good
	refused 3 missing
	try 3 missing-asked vmcsnote inject --record $good -o /dump/none /dump/elf
	cp /tmp/record $good
	try 1 no-output test -e /dump/none
}

disks() {
	# The disk is full when the note is to be written. Root may have the reserve, too.
	dd if=/dev/zero of=/dump/fill bs=64k 2>/dev/null
	dd if=/dev/zero of=/dump/fill2 bs=1k 2>/dev/null
	refused 1 full end
	# (A flattened dump may have no place at its end, wherever its header lies.)
	for f in elf zlib; do says full-$f 'no space left on device'; done
	try 1 full-copy vmcsnote inject -o /dump/none /dump/zlib
	stream() { vmcsnote inject -o /dump/none - </dump/elf; }
	try 1 full-stream stream
	try 1 full-no-output test -e /dump/none
	# The room after a compressed dump's notes costs nothing.
	try 0 full-slack vmcsnote inject /dump/zlib.full
	rm /dump/fill /dump/fill2

	mount -o remount,ro /dump
	refused 1 readonly
	try 1 readonly-copy vmcsnote inject -o /dump/none /dump/zlib
	mount -o remount,rw /dump
	try 0 after vmcsnote inject /dump/elf
}

capture() {
	mount -o remount,size=90% /tmp
	try 0 save-elf makedumpfile -E -d 31 --message-level 4 /proc/vmcore /dump/elf
	try 0 save-zlib makedumpfile -c -d 31 --message-level 4 /proc/vmcore /dump/zlib
	flat() { makedumpfile -F -c -d 31 --message-level 4 /proc/vmcore >/dump/flat; }
	try 0 save-flat flat
	for f in elf zlib flat; do cp /dump/$f /out/$f; ln -s /out/$f /tmp/$f; done
	cp /dump/zlib /dump/zlib.inplace
	cp /dump/zlib /dump/zlib.full
	records
	disks
}

check() {
	local d=$r/dump
	elf "$r/out/elf" "$d/elf"
	elf "$r/out/elf" "$d/elf.own"
	elf "$r/out/elf" "$d/elf.other"
	kdump "$d/zlib.inplace"
	kdump "$d/zlib.full"
	bts "$d/elf" "$d/zlib.full"
}
