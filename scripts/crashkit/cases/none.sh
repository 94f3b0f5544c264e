# A kernel that publishes no VMCSINFO: the dump is saved as it is, and exit status 3 says so.
# shellcheck shell=bash disable=SC2034,SC2154,SC2317
MODULE=none

first() {
	try 3 record vmcsnote record
	try 1 no-record test -e /etc/vmcsnote
}

stream() { vmcsnote inject -o - - <"$1" >"$2"; }

capture() {
	for f in elf zlib; do
		option=-c
		[ $f = zlib ] || option=-E
		try 0 save-$f makedumpfile $option -d 31 --message-level 4 /proc/vmcore /dump/$f
		cp /dump/$f /dump/$f.inplace
		try 3 inject-$f vmcsnote inject /dump/$f.inplace
		try 0 one-error-$f test "$(grep -c '^vmcsnote: error' "$out/inject-$f.err") $(wc -l <"$out/inject-$f.err")" = '1 2'
		try 0 same-$f cmp /dump/$f /dump/$f.inplace
		try 3 stream-$f stream /dump/$f /dump/$f.stream
		try 1 nothing-$f test -s /dump/$f.stream
	done
	# As kdump runs it, once the dump has been saved.
	mkdir -p /dump/var/crash/host
	cp /dump/elf /dump/var/crash/host/vmcore
	try 0 hook sh /guest/kdump-post 0
	says hook '/vmcore stays as it is: no VMCSINFO available$'
	try 0 hook-one-line test "$(wc -l <"$out/hook.err")" = 1
	try 0 hook-same cmp /dump/elf /dump/var/crash/host/vmcore
}

check() {
	local f
	for f in elf zlib; do ok "$f: verify" vmcsnote verify --deep "$r/dump/$f.inplace"; done
	bts "$r/dump/elf.inplace"
}
