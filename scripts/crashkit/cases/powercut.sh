# The machine dies while the note is added: QEMU is killed, and whatever a disk's cache may lose is lost.
# shellcheck shell=bash disable=SC2034,SC2154,SC2317
DUMPDISK=1G

capture() {
	try 0 save-elf makedumpfile -E -d 31 --message-level 4 /proc/vmcore /dump/elf
	try 0 save-zlib makedumpfile -c -d 31 --message-level 4 /proc/vmcore /dump/zlib
	flat() { makedumpfile -F -c -d 31 --message-level 4 /proc/vmcore >/dump/flat; }
	try 0 save-flat flat
	for f in elf zlib flat; do cp /dump/$f /dump/logged.$f; done
	cp /dump/elf /dump/timed
	sync
	try 0 timed vmcsnote inject --placement evict /dump/timed
	rm /dump/timed
}

# again: looks at what earlier cuts have left, then does what the command line says.
again() {
	for f in /dump/cut*; do
		[ -e "$f" ] || continue
		try 0 "verify-${f##*/}" vmcsnote verify --deep "$f"
	done
	if grep -qw cut /proc/cmdline; then
		n=$(find /dump -name 'cut*.elf' | wc -l)
		cp /dump/elf "/dump/cut$n.elf"
		cp /dump/zlib "/dump/cut$n.zlib"
		sync
		say cutting
		vmcsnote inject --placement evict "/dump/cut$n.elf"
		vmcsnote inject --placement end "/dump/cut$n.zlib"
		say injected
		sleep 60
	elif grep -qw logged /proc/cmdline; then
		try 0 logged-elf vmcsnote inject --placement evict /dump/logged.elf
		try 0 logged-zlib vmcsnote inject --placement end /dump/logged.zlib
		try 0 logged-flat vmcsnote inject /dump/logged.flat
	fi
}

# drive: a crash; three times killed at a part of the time that it takes, and
# up again; then once more with all writes logged.
drive() {
	local took part
	"$crashkit/run" powercut || return 1
	took=$(awk '$3 == "timed" {print $2 - $1}' "$r/out/capture/times")
	: >"$r/cuts"
	for part in 0.3 0.6 0.9; do
		"$crashkit/run" powercut REUSE=1 APPEND=cut KILL=cutting KILLAFTER="$(awk "BEGIN {print $took * $part}")" || return 1
		grep -aq injected "$r/console" || echo "$part" >>"$r/cuts"
	done
	"$crashkit/run" powercut REUSE=1 END='again .* done' LOGWRITES=1 APPEND=logged
}

# whole DUMP OLD: the dump is the old one, or has the note.
whole() {
	vmcsnote verify --deep "$1" >/dev/null || return 1
	! vmcsnote show "$1" | grep -q VMCSINFO || saysNote "$1" || return 1
	case $2 in
	*elf) sameLoads "$2" "$1" && sameNotes "$2" "$1" ;;
	*zlib) samePages "$2" "$1" ;;
	esac
}

# after DISK: what a power failure has left, once the journal has been replayed.
after() {
	local f
	e2fsck -fy "$1" >/dev/null || [ $? = 1 ] || return 1
	for f in elf zlib flat; do
		debugfs -R "dump /logged.$f $1.$f" "$1" 2>/dev/null
		whole "$1.$f" "$r/dump/$f" || { echo "logged.$f"; return 1; }
	done
}

check() {
	local f d=$r/dump
	ok 'at least one kill came in the midst' test -s "$r/cuts"
	for f in "$d"/cut*; do ok "${f##*/}: whole" whole "$f" "$d/${f##*.}"; done
	bts "$d/elf" "$d"/cut*
	go build -C "$crashkit/../.." -o "$WORK/powercut" ./internal/cmd/powercut
	ok 'all disks that a power failure may leave' powercut
	echo "info $(tail -n 1 "$r/powercut.log")" >>"$r/checks"
	for f in elf zlib flat; do ok "logged.$f: the note" saysNote "$d/logged.$f"; done
}
powercut() {
	export -f after whole vmcsnote saysNote truth sameLoads partOf sameNotes samePages
	export r WORK
	# shellcheck disable=SC2016
	"$WORK/powercut" "$r/dump.log" "$r/dump.before" "$r/work.img" bash -c 'set -o pipefail; after "$r/work.img"' >"$r/powercut.log" 2>&1 ||
		{ cat "$r/powercut.log"; return 1; }
}
