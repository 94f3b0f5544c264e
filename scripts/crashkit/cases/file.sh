# kexec_file_load, as Secure Boot wants it; the note where /dev/mem can be read.
# shellcheck shell=bash disable=SC1091,SC2034,SC2154,SC2317
. "${crashkit:-/guest}/pinned.sh"
KEXEC=file MODULE='max_phys=0x06000000'

capture() {
	savePinned
	try 0 read-devmem readMem devmem
	try 0 same-devmem cmp "$out/devmem" /out/note
	try 0 memory-devmem vmcsnote inject --pair "$pair" --memory devmem -o /dump/elf.devmem /dump/elf
	says memory-devmem 'read from /dev/mem'
}

check() {
	checkPinned
	elf "$r/dump/elf" "$r/dump/elf.devmem"
}
