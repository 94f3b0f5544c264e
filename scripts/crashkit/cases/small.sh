# The least crashkernel= that Debian's kernel saves a dump in, with the tool in memory as in an initramfs.
# shellcheck shell=bash disable=SC2034,SC2154,SC2317
CRASHKERNEL=96M

# peak NAME COMMAND...: prints the most memory that it had, and checks it.
peak() {
	name=$1
	shift
	try 0 "$name" time -f '%M' -o "$out/peak" "$@"
	kb=$(($(tail -n 1 "$out/peak") / 4)) # busybox takes the kernel's kB for pages of 4
	echo "info $name: peak memory $kb kB, crashkernel=$CRASHKERNEL" >>"$out/results"
	try 0 "$name-peak" test "$kb" -gt 0 -a "$kb" -lt 12288
}

stream() { vmcsnote inject -o - - </dump/elf >/dump/elf.stream; }

capture() {
	cp /bin/vmcsnote /tmp/vmcsnote
	PATH=/tmp:$PATH
	for f in elf zlib flat; do
		case $f in
		elf) try 0 save-elf makedumpfile -E -d 31 --message-level 4 /proc/vmcore /dump/elf ;;
		zlib) try 0 save-zlib makedumpfile -c -d 31 --message-level 4 /proc/vmcore /dump/zlib ;;
		flat) flat() { makedumpfile -F -c -d 31 --message-level 4 /proc/vmcore >/dump/flat; } && try 0 save-flat flat ;;
		esac
		cp /dump/$f /dump/$f.inplace
		peak inject-$f vmcsnote inject /dump/$f.inplace
	done
	peak stream-elf sh -c 'vmcsnote inject -o - - </dump/elf >/dump/elf.stream'
	grep -E 'MemTotal|MemFree|MemAvailable' /proc/meminfo >"$out/meminfo"
	sed 's/^/info /; s/  */ /g' "$out/meminfo" >>"$out/results"
}

check() {
	elf "$r/dump/elf" "$r/dump/elf.inplace"
	kdump "$r/dump/zlib.inplace"
	bts "$r/dump/elf.inplace" "$r/dump/zlib.inplace"
}
