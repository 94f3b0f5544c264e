# The note above the capture kernel's memory: /dev/mem cannot be read there, but mapped.
# shellcheck shell=bash disable=SC1091,SC2034,SC2154,SC2317
. "${crashkit:-/guest}/pinned.sh"
MODULE='min_phys=0x10000000'

capture() {
	savePinned
	try 1 read-devmem readMem devmem
	says read-devmem 'Bad address'
	try 0 memory-devmem vmcsnote inject --pair "$pair" --memory devmem -o /dump/elf.devmem /dump/elf
	says memory-devmem 'read from /dev/mem'
}

check() {
	checkPinned
	elf "$r/dump/elf" "$r/dump/elf.devmem"
}
