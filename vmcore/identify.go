package vmcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"

	"vmcsnote/vmcore/internal/lime"
	"vmcsnote/vmcore/internal/plan"

	"github.com/pkg/errors"
)

// A Kind is a kind of file that people take for a dump, but that [Open] does
// not open. Its value names it for people.
type Kind string

// Kinds that callers tell apart.
const (
	KindUnknown  Kind = ""
	KindGzip     Kind = "a gzip file"
	KindBzip2    Kind = "a bzip2 file"
	KindXZ       Kind = "an xz file"
	KindZstd     Kind = "a zstd file"
	KindLZ4      Kind = "an lz4 file"
	KindLZOP     Kind = "an lzop file"
	KindLZMA     Kind = "an lzma file"
	KindCompress Kind = "a file of compress(1)"
	KindZip      Kind = "a zip archive"
	KindTar      Kind = "a tar archive"
	KindCpio     Kind = "a cpio archive"
	Kind7z       Kind = "a 7z archive"

	KindLibvirt    Kind = "an image of virsh save or managedsave"
	KindQEVM       Kind = "a QEMU migration stream"
	KindVMware     Kind = "a VMware snapshot or suspend file (vmss, vmsn)"
	KindVirtualBox Kind = "a VirtualBox saved state"
	KindXenCore    Kind = "a core of a Xen domain (xl dump-core)"
	KindXenSave    Kind = "a saved Xen domain (xl save)"
	KindLKCD       Kind = "an LKCD dump"
	KindS390       Kind = "an s390 stand-alone dump"
	KindDiskdump   Kind = "a diskdump dump"
	KindSadump     Kind = "an sadump dump"
	KindWindows    Kind = "a Windows crash dump"
	KindMinidump   Kind = "a minidump of a process"

	KindLiME Kind = "a LiME image"
	KindAVML Kind = "an AVML image"

	KindQcow2      Kind = "a qcow2 disk image"
	KindDisk       Kind = "a disk image (VMDK, VDI, VHD or VHDX)"
	KindFS         Kind = "a file system (ext4, XFS, Btrfs, squashfs or ISO 9660)"
	KindVolume     Kind = "an LVM or LUKS volume"
	KindPartition  Kind = "a partitioned disk"
	KindPE         Kind = "a PE file, such as a kernel image with an EFI stub"
	KindExecutable Kind = "an ELF file that is no core, such as vmlinux"
	KindJournal    Kind = "a systemd journal"
	KindText       Kind = "a text, such as a kernel log"
	KindZeros      Kind = "zeros"
)

// magics are how files begin that people take for dumps, the sure ones first.
var magics = []struct {
	off   int64
	magic string
	kind  Kind
}{
	{0, "\x1f\x8b", KindGzip},
	{0, "BZh", KindBzip2},
	{0, "\xfd7zXZ\x00", KindXZ},
	{0, "\x28\xb5\x2f\xfd", KindZstd},
	{0, "\x04\x22\x4d\x18", KindLZ4},
	{0, "\x02\x21\x4c\x18", KindLZ4}, // as the kernel's build makes it
	{0, "\x89LZO\x00\r\n\x1a\n", KindLZOP},
	{0, "\x5d\x00\x00", KindLZMA},
	{0, "\x1f\x9d", KindCompress},
	{0, "PK\x03\x04", KindZip},
	{0, "7z\xbc\xaf\x27\x1c", Kind7z},
	{257, "ustar", KindTar},
	{0, "070701", KindCpio},
	{0, "070702", KindCpio},
	{0, "070707", KindCpio},
	{0, "LibvirtQemudSave", KindLibvirt},
	{0, "LibvirtQemudPart", KindLibvirt},
	{0, "QEVM", KindQEVM},
	{0, "\xd0\xbe\xd2\xbe", KindVMware},
	{0, "\xd1\xba\xd1\xba", KindVMware},
	{0, "\xd2\xbe\xd2\xbe", KindVMware},
	{0, "\xd3\xbe\xd3\xbe", KindVMware},
	{0, "\x7fVirtualBox SavedState", KindVirtualBox},
	{0, "\xed\xeb\x0f\xf0", KindXenCore}, // XC_CORE_MAGIC, before the ELF form
	{0, "\xee\xeb\x0f\xf0", KindXenCore}, // the same of an HVM guest
	{0, "LinuxGuestRecord", KindXenSave},
	{0, "Xen saved domain", KindXenSave},
	{0, "\xff\xff\xff\xff\xff\xff\xff\xffXENF", KindXenSave},
	{0, "\xed\x23\x8f\x61\x73\x01\x19\xa8", KindLKCD},
	{0, "\xa8\x19\x01\x73\x61\x8f\x23\xed", KindLKCD},
	{0, "\xcd\x23\x8f\x61\x73\x01\x19\xa8", KindLKCD}, // of a live system
	{0, "\xa8\x19\x01\x73\x61\x8f\x23\xcd", KindLKCD},
	{0, "\xa8\x19\x01\x73\x61\x8f\x23\xfd", KindS390},
	{0, "DISKDUMP", KindDiskdump}, // kdump's ancestor, until 2007
	{0, "sadump\x00\x00", KindSadump},
	{0, "PAGEDU64", KindWindows},
	{0, "PAGEDUMP", KindWindows},
	{0, "MDMP", KindMinidump},
	{0, lime.Magic + "\x01\x00\x00\x00", KindLiME},
	{0, lime.AVMLMagic + "\x02\x00\x00\x00", KindAVML},
	{0, "QFI\xfb", KindQcow2},
	{0, "KDMV", KindDisk},
	{0x40, "\x7f\x10\xda\xbe", KindDisk},
	{0, "conectix", KindDisk},
	{0, "vhdxfile", KindDisk},
	{1080, "\x53\xef", KindFS},
	{0, "XFSB", KindFS},
	{0x10040, "_BHRfS_M", KindFS},
	{0, "hsqs", KindFS},
	{0x8001, "CD001", KindFS},
	{0, "LABELONE", KindVolume},
	{512, "LABELONE", KindVolume},
	{0, "LUKS\xba\xbe", KindVolume},
	{512, "EFI PART", KindPartition},
	{0, "MZ", KindPE},
	{0, "LPKSHHRH", KindJournal},
}

// Identify returns the kind of file that r is, if [Open] does not open it.
func Identify(r io.ReaderAt) Kind {
	for _, m := range magics {
		if plan.HasAt(r, m.off, m.magic) {
			return m.kind
		}
	}
	b := make([]byte, 512)
	n, _ := r.ReadAt(b, 0)
	b = b[:n]
	switch {
	case n == 0:
		return KindUnknown
	case bytes.HasPrefix(b, []byte(elf.ELFMAG)):
		return identifyELF(b)
	case bytes.Count(b, []byte{0}) == n:
		return KindZeros
	case n == len(b) && n == 512 && binary.LittleEndian.Uint16(b[510:]) == 0xaa55:
		return KindPartition
	case isText(b):
		return KindText
	}
	return KindUnknown
}

func isText(b []byte) bool {
	return !bytes.ContainsFunc(b, func(c rune) bool {
		return c < ' ' && c != '\n' && c != '\t' && c != '\r' && c != '\x1b' || c == 0x7f
	})
}

// identifyELF identifies an ELF file by its header: xl dump-core writes
// sections alone.
func identifyELF(b []byte) Kind {
	var order binary.ByteOrder = binary.LittleEndian
	if len(b) < 64 {
		return KindUnknown
	}
	if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	phnum, shnum := b[56:], b[60:]
	if elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS32 {
		phnum, shnum = b[44:], b[48:]
	}
	switch {
	case elf.Type(order.Uint16(b[16:])) != elf.ET_CORE:
		return KindExecutable
	case order.Uint16(phnum) == 0 && order.Uint16(shnum) > 0:
		return KindXenCore
	}
	return KindUnknown
}

// identified adds to the error for a file that is no dump what it is instead,
// and which dumps [Open] opens.
func identified(r io.ReaderAt, err error) error {
	var e *FormatError
	if !errors.As(err, &e) || e.Err != ErrNotCore {
		return err
	}
	is, kind := *e, Identify(r)
	if e.Found != plan.EmptyFile {
		is.Err = NotCoreError{kind}
	}
	if e.What == "file" {
		is.Want = "an ELF core, or a kdump-compressed or flattened dump"
		if kind != KindUnknown {
			is.Found = string(kind)
		}
	}
	return &is
}

// A NotCoreError is [ErrNotCore] with the kind of the file.
type NotCoreError struct{ Kind Kind }

// Error says what the file is instead.
func (e NotCoreError) Error() string { return ErrNotCore.Error() + ", but " + string(e.Kind) }

// Unwrap returns [ErrNotCore].
func (e NotCoreError) Unwrap() error { return ErrNotCore }
