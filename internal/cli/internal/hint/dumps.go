package hint

import "vmcsnote/vmcore"

// fewNotes is the cure for an image of memory.
const fewNotes = "it has memory, but no notes: vmcsnote guests and vmcsnote extract read it"

// Dumps are the cures for files that are no dumps.
var Dumps = map[vmcore.Kind]string{
	vmcore.KindGzip:  "unpack it first (gzip -d), or write a copy with -o",
	vmcore.KindBzip2: "unpack it first (bzip2 -d), or write a copy with -o",
	vmcore.KindXZ:    "unpack it first (xz -d), or write a copy with -o",
	vmcore.KindZstd:  "unpack it first (zstd -d), or write a copy with -o",
	vmcore.KindLZ4:   "unpack it first (lz4 -d), or write a copy with -o",
	vmcore.KindLZOP:  "unpack it first (lzop -d), or write a copy with -o",
	vmcore.KindLZMA:  "unpack it first (xz -d), or write a copy with -o",

	vmcore.KindCompress: "unpack it first: gzip -d",
	vmcore.KindZip:      "unpack it first: unzip",
	vmcore.Kind7z:       "unpack it first: 7z x",
	vmcore.KindTar:      "unpack it first: tar -xf, and give the dump that is in it",
	vmcore.KindCpio:     "unpack it first: cpio -id, and give the dump that is in it",

	vmcore.KindLibvirt: "virsh restore starts the guest from it: dump that with virsh dump --memory-only",
	vmcore.KindQEVM:    "load it into QEMU (-incoming), and write a dump with dump-guest-memory, or virsh dump --memory-only",
	vmcore.KindVMware:  "vmss2core -N6 makes an ELF core of it and its .vmem; crash reads it as it is",

	vmcore.KindVirtualBox: "VBoxManage debugvm NAME dumpvmcore writes an ELF core of the running machine",
	vmcore.KindXenCore:    "crash reads it; it has no ELF notes to change",
	vmcore.KindXenSave:    "xl restore starts the domain from it: dump that with xl dump-core, which crash reads",
	vmcore.KindDiskdump:   "crash and libkdumpfile read it; it has no ELF notes to change",
	vmcore.KindLKCD:       "crash and libkdumpfile read it; it has no ELF notes to change",
	vmcore.KindS390:       "zgetdump -f elf makes an ELF core of it",
	vmcore.KindSadump:     "makedumpfile -d 31 makes a kdump-compressed dump of it",
	vmcore.KindWindows:    "it is a dump of a Windows guest: WinDbg reads it",
	vmcore.KindMinidump:   "it is a dump of a process: minidump-2-core of Breakpad makes a core of it",
	vmcore.KindLiME:       fewNotes,
	vmcore.KindAVML:       fewNotes,
	vmcore.KindQcow2:      "it is a guest's disk: guestmount or qemu-nbd opens it, and the dump may be in its /var/crash",
	vmcore.KindDisk:       "it is a guest's disk: guestmount or qemu-nbd opens it, and the dump may be in its /var/crash",
	vmcore.KindFS:         "mount it (mount -o loop,ro), and give the dump that is in it",
	vmcore.KindVolume:     "open the volume (vgchange -ay, cryptsetup open), mount it, and give the dump that is in it",
	vmcore.KindPartition:  "losetup -P shows its partitions: mount the one with the dump, and give that",
	vmcore.KindPE:         "that is the kernel, not its dump",
	vmcore.KindExecutable: "give the dump, not the kernel or a program",
	vmcore.KindJournal:    "journalctl --file reads it; coredumpctl dump writes out a core that it names",
	vmcore.KindText:       "give the dump (vmcore), not its log (vmcore-dmesg.txt)",
	vmcore.KindZeros: "nothing was written there: the dump is lost, or on another device; " +
		"if it is raw memory, vmcsnote guests --raw reads it",
}
