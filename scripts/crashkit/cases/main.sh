# A dump in every form that people save, and the note added to each.
# In place, as a stream, and on the way from makedumpfile. Also: the devices and
# files of a real kernel, each by itself.
# shellcheck shell=bash disable=SC2034,SC2154,SC2317

first() {
	try 0 record vmcsnote record
	try 0 show-record vmcsnote show /etc/vmcsnote/record
	# The kernel keeps its own RAM out of /dev/mem, but not out of /proc/kcore.
	try 0 record-kcore vmcsnote record --memory kcore -o "$out/record.kcore"
	try 0 record-devmem vmcsnote record --memory devmem -o "$out/record.devmem"
	says record-devmem 'only the pair is recorded, not the note'
	try 0 record-auto vmcsnote record -o "$out/record.auto"
}

# stream FROM TO: as in a pipe.
stream() { vmcsnote inject -o - - <"$1" >"$2"; }
flatten() { makedumpfile -F --message-level 4 "$@" /proc/vmcore; }
passing() { flatten -c -d 31 | vmcsnote inject -o - - >/dump/flat.passing; }
# Here the table of program headers comes last.
passingELF() { flatten -E -d 31 | vmcsnote inject -o - - >/dump/flat.elf; }
through() { vmcsnote inject -o - /proc/vmcore >/dump/raw.through; }

capture() {
	try 0 save-raw cp /proc/vmcore /dump/raw
	try 0 save-elf makedumpfile -E -d 31 --message-level 4 /proc/vmcore /dump/elf
	try 0 save-zlib makedumpfile -c -d 31 --message-level 4 /proc/vmcore /dump/zlib
	flat() { flatten -c -d 31 >/dump/flat; }
	try 0 save-flat flat
	chmod u+w /dump/raw # cp has given it the mode of /proc/vmcore, 0400
	for f in raw elf zlib flat; do
		try 0 stream-$f stream /dump/$f /dump/$f.stream
		try 0 copy-$f cp /dump/$f /dump/$f.inplace
		try 0 inject-$f vmcsnote inject --json /dump/$f.inplace
		says inject-$f "the note comes from the core's memory, by the record"
	done
	try 0 again-elf vmcsnote inject /dump/elf.inplace
	says again-elf 'is already there, unchanged'

	# /proc/vmcore itself, as any core.
	try 0 show-vmcore vmcsnote show /proc/vmcore
	try 0 verify-vmcore vmcsnote verify /proc/vmcore
	try 0 plan-vmcore vmcsnote inject -n -o /dump/none /proc/vmcore
	try 1 inplace-vmcore vmcsnote inject /proc/vmcore
	try 0 through-vmcore through
	try 0 passing passing
	try 0 passing-elf passingELF

	# Where a pair's memory can be read here; of /dev/mem that depends on the
	# address: the cases file, high and rambuf.
	for m in auto vmcore; do
		try 0 memory-$m vmcsnote inject --pair "$pair" --memory $m -n /dump/elf
	done
	try 1 memory-kcore vmcsnote inject --pair "$pair" --memory kcore -n /dump/elf
}

check() {
	local d=$r/dump f n
	for n in record.kcore record.auto; do
		ok "$n: the note" saysNote "$r/out/first/$n"
	done
	for n in inplace stream; do
		for f in raw elf; do elf "$d/$f" "$d/$f.$n"; done
		kdump "$d/zlib.$n"
	done
	elf "$d/raw" "$d/raw.through"
	for f in raw.stream elf.stream zlib.stream; do
		ok "$f: without the note it is the old dump" removed "$d/${f%.*}" "$d/$f"
	done
	ok 'zlib.inplace: pages as they were' samePages "$d/zlib" "$d/zlib.inplace"
	ok 'flat: makedumpfile -R' plain "$d/flat"
	for n in inplace stream passing; do
		ok "flat.$n: verify" vmcsnote verify --deep "$d/flat.$n"
		ok "flat.$n: the note" saysNote "$d/flat.$n"
		ok "flat.$n: makedumpfile -R" plain "$d/flat.$n"
		kdump "$d/flat.$n.plain"
		ok "flat.$n: without the note it is the old dump" removed "$d/flat.plain" "$d/flat.$n.plain"
	done
	ok 'flat.elf: makedumpfile -R' plain "$d/flat.elf"
	elf "$d/elf" "$d/flat.elf.plain"
	bts "$d"/{raw,raw.inplace,elf.stream,zlib.inplace,zlib.stream,flat.inplace,flat.passing}
}
