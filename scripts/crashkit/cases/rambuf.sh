# The note in the capture kernel's "RAM buffer", which no device shows: the core and the record have it.
# shellcheck shell=bash disable=SC1091,SC2034,SC2154,SC2317
. "${crashkit:-/guest}/pinned.sh"
MODULE='min_phys=0x0e000000 max_phys=0x10000000'

first() {
	try 0 record vmcsnote record
	try 0 pair-alone vmcsnote record --memory devmem -o /out/pair-alone
}

stream() { vmcsnote inject --record /out/pair-alone -o - - </dump/elf >/dump/elf.refused; }

capture() {
	savePinned
	try 1 read-devmem readMem devmem
	says read-devmem 'Bad address'
	try 1 memory-devmem vmcsnote inject --pair "$pair" --memory devmem -o /dump/elf.devmem /dump/elf
	try 1 no-output test -e /dump/elf.devmem
	# A record without the note: a file has the memory, a stream has not.
	try 0 pair-file vmcsnote inject --record /out/pair-alone -o /dump/elf.pair /dump/elf
	says pair-file 'by the record'
	try 1 pair-stream stream
	try 1 nothing-streamed test -s /dump/elf.refused
}

check() {
	checkPinned
	elf "$r/dump/elf" "$r/dump/elf.pair"
}
