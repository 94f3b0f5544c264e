# What the check function of a case can use. It looks at $r, the run's folder.
# shellcheck shell=bash disable=SC2154

# ok TEXT COMMAND...: one check. What a failing one prints is shown.
ok() {
	local text=$1 log
	shift
	if log=$("$@" 2>&1); then
		echo "ok check: $text" >>"$r/checks"
	else
		{
			echo "FAIL check: $text: $*"
			tail -n 4 <<<"$log" | cut -c -160 | sed 's/^/     /'
		} >>"$r/checks"
	fi
}

# fails STATUS COMMAND...: the command ends with that exit status.
fails() {
	local want=$1 got=0
	shift
	"$@" || got=$?
	[ $got = "$want" ] || { echo "exit status $got, expected $want"; false; }
}

vmcsnote() { "$WORK/vmcsnote" "$@"; }

# truth prints the descriptor that the module has put into memory.
truth() { tail -c +25 "$r/out/note" | head -c "$(od -An -t u4 -j 4 -N 4 "$r/out/note")"; }

# saysNote FILE: vmcsnote finds the true note in it, byte for byte.
saysNote() { vmcsnote show --note VMCSINFO "$1" | cmp - <(truth); }

# readelfNote CORE: readelf finds it, too. It prints unknown notes in hexadecimal.
readelfNote() {
	cmp <(readelf -nW "$1" 2>&1 | sed -n '/^  VMCSINFO /s/.*description data: //p' | tr -d ' \n') \
		<(truth | od -An -v -t x1 | tr -d ' \n') &&
		! readelf -nW "$1" 2>&1 | grep -i 'warning\|corrupt'
}
euReadelfNote() { eu-readelf -n "$1" | grep -q '^  VMCSINFO '; }

# sameLoads OLD NEW: the same memory, with the same bytes. NEW may have a segment
# in two parts, as placement split leaves it: each part lies in a segment of OLD,
# and all parts together are as large.
sameLoads() {
	local old new off addr phys size mem total=0
	old=$(readelf -lW "$1" | awk '$1 == "LOAD" { print $2, $3, $4, $5, $6 }')
	new=$(readelf -lW "$2" | awk '$1 == "LOAD" { print $2, $3, $4, $5, $6 }')
	[ -n "$old" ] || return 1
	while read -r _ _ _ size mem; do total=$((total + size + mem)); done <<<"$old"
	while read -r off addr phys size mem; do
		total=$((total - size - mem))
		partOf "$1" "$2" "$old" "$off" "$addr" "$phys" "$size" || return 1
	done <<<"$new"
	[ $total = 0 ]
}

# partOf OLD NEW LOADS OFF ADDR PHYS SIZE: what NEW has at OFF is in one of LOADS,
# OLD's segments.
partOf() {
	local off addr phys size skip
	while read -r off addr phys size _; do
		skip=$(($5 - addr))
		if ((skip >= 0 && skip + $7 <= size && $6 - phys == skip)); then
			cmp -i $((off + skip)):$(($4)) -n $(($7)) "$1" "$2"
			return
		fi
	done <<<"$3"
	return 1
}

# sameNotes OLD NEW: the same notes, but for VMCSINFO.
sameNotes() {
	cmp <(readelf -nW "$1" | grep -v '^Displaying') <(readelf -nW "$2" | grep -v '^Displaying\|^  VMCSINFO ')
}

# samePages OLD NEW: of compressed dumps, all that lies after the notes' blocks.
samePages() {
	local from=$((4096 * (1 + $(od -An -t u4 -j 428 -N 4 "$1"))))
	cmp -n 4096 "$1" "$2" && cmp -i "$from" -n $(($(stat -c %s "$1") - from)) "$1" "$2"
}

# removed OLD NEW: without the note a copy is the old one, byte for byte.
removed() {
	cp "$2" "$2.removed" && vmcsnote remove "$2.removed" && cmp "$1" "$2.removed" && rm "$2.removed"
}

# plain FLAT: makedumpfile puts a flattened dump together, as FLAT.plain. It reads
# on for ever after the end of one that is cut off.
plain() { timeout 120 makedumpfile -R --message-level 4 "$1.plain" <"$1"; }

# filtered DUMP: makedumpfile reads it, and hands the note on.
filtered() {
	makedumpfile --message-level 4 -f -c -d 31 "$1" "$1.filtered" && saysNote "$1.filtered" && rm "$1.filtered"
}
dmesg() {
	makedumpfile --message-level 4 -f --dump-dmesg "$1" "$1.dmesg" && grep -q 'sysrq: Trigger a crash' "$1.dmesg"
}

# bt DUMP: crash's backtrace of the panic, with the kernel's debug information.
bt() {
	[ -e "$built/vmlinux" ] || { echo "prepare vmlinux has failed"; return 1; }
	printf 'bt\nq\n' | timeout 300 crash -s "$built/vmlinux" "$1" >"$1.bt" 2>&1
	grep -q 'sysrq_handle_crash at' "$1.bt" || { cat "$1.bt"; return 1; }
}
osrelease() { [ "$(crash --osrelease "$1")" = "$release" ]; }

# elf OLD NEW, kdump NEW: all checks of a dump with the note.
elf() {
	local n=${2##*/}
	ok "$n: verify" vmcsnote verify --deep "$2"
	ok "$n: the note" saysNote "$2"
	ok "$n: readelf sees the note" readelfNote "$2"
	ok "$n: eu-readelf sees the note" euReadelfNote "$2"
	ok "$n: other notes as they were" sameNotes "$1" "$2"
	ok "$n: memory as it was" sameLoads "$1" "$2"
	ok "$n: makedumpfile hands the note on" filtered "$2"
	ok "$n: makedumpfile reads the log" dmesg "$2"
	ok "$n: crash --osrelease" osrelease "$2"
}
kdump() {
	local n=${1##*/}
	ok "$n: verify" vmcsnote verify --deep "$1"
	ok "$n: the note" saysNote "$1"
	ok "$n: makedumpfile hands the note on" filtered "$1"
	ok "$n: makedumpfile reads the log" dmesg "$1"
	ok "$n: crash --osrelease" osrelease "$1"
}

# bts DUMP...: as bt, two at a time, the first being the one to compare with.
bts() {
	local f pids=()
	for f; do
		ok "${f##*/}: crash bt" bt "$f" &
		pids+=($!)
		[ ${#pids[@]} -lt 2 ] || { wait "${pids[0]}"; pids=("${pids[@]:1}"); }
	done
	wait "${pids[@]}"
	for f; do ok "${f##*/}: crash bt as of ${1##*/}" cmp "$1.bt" "$f.bt"; done
}
