# Debian's kexec-tools with our patch: the note comes with /proc/vmcore, in whatever form that is saved.
# It also compares what the patched kexec would load with what Debian's loads, for
# many contents of /sys/kernel/vmcsinfo.
# shellcheck shell=bash disable=SC2154

# headers NAME KEXEC: keeps as $out/NAME.elf what it would load.
headers() {
	try 0 "$1" env LD_PRELOAD=/guest/elfcorehdr.so "ELFCOREHDR=$out/$1.elf" \
		"$2" -c -p --append= /kernel/vmlinuz
}

# same A B: two headers are equal.
same() {
	problem=
	cmp "$out/$1.elf" "$out/$2.elf" >/dev/null 2>&1 || problem='they differ'
	[ -s "$out/$1.elf" ] || problem='nothing there'
	result "the elfcorehdr of $2 is that of $1" "$problem"
}
silent() { result "$1 is silent" "$(cat "$out/$1.err")"; }

# refused NAME TEXT WORDS: with this TEXT in /sys/kernel/vmcsinfo kexec prints a
# warning with these WORDS, and loads what it loads without the patch.
refused() {
	printf %s "$2" >/tmp/vmcsinfo
	headers "$1" kexec
	says "$1" "Warning: /sys/kernel/vmcsinfo: $3, no VMCSINFO in the dump"
	same stock "$1"
}

first() {
	headers stock kexec.stock
	try 0 rmmod rmmod vmcsinfo_test
	headers absent kexec
	silent absent
	same stock absent

	publish
	read -r address size </out/pair
	headers note kexec
	silent note

	touch /tmp/vmcsinfo
	mount -o bind /tmp/vmcsinfo /sys/kernel/vmcsinfo
	printf '0x%016x 0x%x\n' "0x$address" "0x$size" >/tmp/vmcsinfo
	headers prefixed kexec
	same note prefixed
	refused empty '' 'cannot parse it'
	refused words 'no such note' 'cannot parse it'
	refused address-alone "$address" 'cannot parse it'
	refused size-11 "$address b" 'size out of bounds'
	refused size-64K1 "$address 10001" 'size out of bounds'
	no='not in memory that will be dumped'
	ram=$(sed -n 's/^[0-9a-f]*-\([0-9a-f]*\) : System RAM$/\1/p' /proc/iomem | tail -n 1)
	crash=$(sed -n 's/^ *\([0-9a-f]*\)-.* : Crash kernel$/\1/p' /proc/iomem)
	refused device 'fee00000 1000' "$no"
	refused wraps 'fffffffffffff000 2000' "$no"
	refused end-of-ram "$(printf %x $((0x$ram - 0xfff))) 1001" "$no"
	refused crashkernel "$crash 1000" "$no"
	refused backup-region '2000 1000' "$no"

	# Not only the dry run: kexec loads it.
	echo 'no such note' >/tmp/vmcsinfo
	try 0 unparsable kexec -c -p --append= /kernel/vmlinuz
	says unparsable 'cannot parse it'
	try 0 unparsable-armed grep -qx 1 /sys/kernel/kexec_crash_loaded
	umount /sys/kernel/vmcsinfo

	try 0 record vmcsnote record
}

raw() { cat /proc/vmcore >/dump/raw; }
flatten() { makedumpfile -F -c -d 31 --message-level 4 /proc/vmcore; }
passing() { flatten | tee /dump/flat | vmcsnote inject -o - - >/dump/stream; }
already() { says "$1" 'VMCSINFO is already there, unchanged'; }

capture() {
	try 0 save-raw raw
	try 0 save-elf makedumpfile -E -d 31 --message-level 4 /proc/vmcore /dump/elf
	try 0 save-zlib makedumpfile -c -d 31 --message-level 4 /proc/vmcore /dump/zlib
	try 0 save-flat passing
	already save-flat
	for f in raw elf zlib flat; do
		before=$(stat -c '%i %s %Y %Z' /dump/$f)
		sleep 1 # or a change in the same second were none
		try 0 inject-$f vmcsnote inject /dump/$f
		already inject-$f
		[ "$before" = "$(stat -c '%i %s %Y %Z' /dump/$f)" ] && problem='' || problem='changed'
		result "$f is not written to" "$problem"
	done
}

drive() { "$crashkit/kexec-tools" "$WORK/kexec-tools/tree" && "$crashkit/run" "$1" ADD="$WORK/kexec-tools/tree"; }

# part FILE OFFSET SIZE, number FILE OFFSET BYTES: what is there.
part() { dd if="$1" bs=64K iflag=skip_bytes,count_bytes skip="$2" count="$3" status=none; }
number() { od --endian=little -An -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# oneMore OLD NEW: of two elfcorehdrs the new one has one more PT_NOTE, the pair's,
# after the others, and is otherwise the old one.
oneMore() {
	local n at end address size
	n=$(number "$1" 56 2)
	at=$((64 + 56 * $(readelf -lW "$1" | grep -c '^  NOTE')))
	end=$((64 + 56 * n))
	[ "$(number "$2" 56 2)" = $((n + 1)) ] || return
	cmp <(part "$1" 0 56) <(part "$2" 0 56) || return
	cmp <(part "$1" 58 $((at - 58))) <(part "$2" 58 $((at - 58))) || return
	cmp <(part "$1" $at $((end - at))) <(part "$2" $((at + 56)) $((end - at))) || return
	[ -z "$(tail -c +$((end + 56 + 1)) "$2" | tr -d '\0')" ] || return
	read -r address size <"$r/out/pair"
	# p_type and p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
	[ "$(part "$2" $at 56 | od --endian=little -An -v -w56 -t x8 | tr -s ' ')" = \
		"$(printf ' %016x' 4 "0x$address" 0 "0x$address" "0x$size" "0x$size" 0)" ]
}

# last CORE: its notes end with the module's; the fill after it is gone.
last() {
	local size
	size=$((12 + 12 + ($(number "$r/out/note" 4 4) + 3) / 4 * 4))
	[ "$size" -lt "$(stat -c %s "$r/out/note")" ] || return
	part "$1" "$(number "$1" 72 8)" "$(number "$1" 96 8)" | tail -c "$size" |
		cmp - <(part "$r/out/note" 0 "$size")
}

check() {
	local d=$r/dump f
	ok 'elfcorehdr: one more PT_NOTE' oneMore "$r/out/first/stock.elf" "$r/out/first/note.elf"
	for f in raw elf; do
		ok "$f: verify" vmcsnote verify --deep "$d/$f"
		ok "$f: the note" saysNote "$d/$f"
		ok "$f: the note is the last, without its fill" last "$d/$f"
		ok "$f: readelf sees the note" readelfNote "$d/$f"
		ok "$f: eu-readelf sees the note" euReadelfNote "$d/$f"
		ok "$f: makedumpfile hands the note on" filtered "$d/$f"
		ok "$f: makedumpfile reads the log" dmesg "$d/$f"
		ok "$f: crash --osrelease" osrelease "$d/$f"
	done
	kdump "$d/zlib"
	ok 'flat: the note' saysNote "$d/flat"
	ok 'flat: makedumpfile -R' plain "$d/flat"
	kdump "$d/flat.plain"
	ok 'stream: makedumpfile -R' plain "$d/stream"
	ok 'stream: inject has passed the dump on' cmp "$d/flat.plain" "$d/stream.plain"
	bts "$d"/{raw,elf,zlib,flat.plain}
}
