# For the cases with the note at a place that is known. Without KASLR the kernel
# is at 16 MiB, the capture kernel gets 96 to 224 MiB:
#
#	below 96 MiB         /dev/mem can be read there: below the capture kernel's high_memory
#	224 to 256 MiB       "RAM buffer", up to the next 64 MiB: neither read nor mapped
#	from 256 MiB on      EFAULT for read, but mmap works
# shellcheck shell=bash disable=SC2034,SC2154,SC2317
APPEND=nokaslr CRASHKERNEL=128M@96M

# readMem NAME: the pair's memory by way of read.
readMem() { dd if=/dev/mem of="$out/$1" bs=4096 skip=$((0x${pair% *} / 4096)) count=2; }

# savePinned: an ELF dump, and the note in it in place and as a stream.
savePinned() {
	try 0 save makedumpfile -E -d 31 --message-level 4 /proc/vmcore /dump/elf
	cp /dump/elf /dump/elf.inplace
	try 0 inject vmcsnote inject /dump/elf.inplace
	says inject "from the core's memory, by the record"
	passing() { makedumpfile -F -c -d 31 --message-level 4 /proc/vmcore | vmcsnote inject -o - - >/dump/flat; }
	try 0 passing passing
}

checkPinned() {
	elf "$r/dump/elf" "$r/dump/elf.inplace"
	ok 'flat: makedumpfile -R' plain "$r/dump/flat"
	kdump "$r/dump/flat.plain"
	bts "$r/dump/elf.inplace"
}
