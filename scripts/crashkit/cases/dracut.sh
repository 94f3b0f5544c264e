# The hook path of kdump-utils: dracut's initramfs with our module saves the dump, to each kind of target.
# shellcheck shell=bash disable=SC2034,SC2154
INITRD=dracut.gz
CAPAPPEND='root=/dev/vda rootfstype=ext4 rd.shell=0'
CRASHKERNEL=192M
MEM=512
# What the capture kernel does is in kdumpbase/save.sh, in the image.

drive() {
	rm -rf "$WORK/dracut"
	"$crashkit/dracut" "$WORK/dracut"
	"$crashkit/run" "$1" ADD="$WORK/dracut"
}

# earlier FILE: it has the note of the record in the image.
earlier() { vmcsnote show --note VMCSINFO "$1" | cmp - "$WORK/dracut/note"; }
without() { fails 1 vmcsnote show --note VMCSINFO "$1"; }
# saved: the one dump below a directory, flattened.
saved() { echo "$r/dump/$1"/var/crash/*/vmcore.flat; }
absent() { ! ls -d "$@"; }

check() {
	local f n
	for n in local raw remote; do
		f=$r/dump/$n
		[ $n != remote ] || f=$(saved remote)
		ok "$n: verify" vmcsnote verify --deep "$f"
		ok "$n: the image's note" earlier "$f"
		[ $n = local ] || { ok "$n: makedumpfile -R" plain "$f"; f=$f.plain; }
		ok "$n: makedumpfile reads the log" dmesg "$f"
		ok "$n: crash bt" bt "$f"
	done
	f=$r/dump/root
	ok "root: the note of the boot that crashed" saysNote "$f"
	ok "root: readelf sees the note" readelfNote "$f"
	ok "root: the mode is as cp made it" [ "$(stat -c %a "$f")" = 400 ]
	ok "root: crash bt" bt "$f"
	for n in without remote-without; do
		f=$r/dump/$n
		[ $n = without ] || f=$(saved $n)
		ok "$n: no note" without "$f"
		ok "$n: verify" vmcsnote verify "$f"
	done
	ok "remote-without: makedumpfile -R" plain "$f"
	ok "remote-without: the same as without" cmp "$r/dump/without" "$f.plain"
	ok "failed: nothing is left that looks like a dump" absent "$r/dump/failed"/var/crash/*/vmcore.flat
}
