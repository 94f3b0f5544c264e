package cli

import (
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/cli/internal/hint"
	"vmcsnote/vmcore"
)

// TestNotADump: files that people take for dumps are named, with the cure.
func TestNotADump(t *testing.T) {
	at := func(off int, magic string) string {
		return strings.Repeat("\x01", off) + magic + strings.Repeat("\x01", 600)
	}
	for _, tt := range []struct {
		name, bytes string
		kind        vmcore.Kind
		cure        string
	}{
		{"gzip", at(0, "\x1f\x8b\x08"), vmcore.KindGzip, "gzip -d"},
		{"virsh save", at(0, "LibvirtQemudSave\x02"), vmcore.KindLibvirt, "virsh dump --memory-only"},
		{"an unfinished virsh save", at(0, "LibvirtQemudPart\x02"), vmcore.KindLibvirt, "virsh dump --memory-only"},
		{"savevm", at(0, "QEVM\x00\x00\x00\x03"), vmcore.KindQEVM, "dump-guest-memory"},
		{"vmss", at(0, "\xd2\xbe\xd2\xbe"), vmcore.KindVMware, "vmss2core"},
		{"LKCD, little-endian", at(0, "\xed\x23\x8f\x61\x73\x01\x19\xa8"), vmcore.KindLKCD, "crash"},
		{"LKCD, big-endian", at(0, "\xa8\x19\x01\x73\x61\x8f\x23\xed"), vmcore.KindLKCD, "crash"},
		{"s390", at(0, "\xa8\x19\x01\x73\x61\x8f\x23\xfd"), vmcore.KindS390, "zgetdump"},
		{"diskdump", at(0, "DISKDUMP"), vmcore.KindDiskdump, "crash"},
		{"sadump", at(0, "sadump\x00\x00"), vmcore.KindSadump, "makedumpfile"},
		{"Windows, 64-bit", at(0, "PAGEDU64"), vmcore.KindWindows, "WinDbg"},
		{"Windows, 32-bit", at(0, "PAGEDUMP"), vmcore.KindWindows, "WinDbg"},
		{"Xen, before ELF", at(0, "\xed\xeb\x0f\xf0"), vmcore.KindXenCore, "crash"},
		{"LiME", at(0, "EMiL\x01\x00\x00\x00"), vmcore.KindLiME, "vmcsnote guests"},
		{"AVML", at(0, "AVML\x02\x00\x00\x00"), vmcore.KindAVML, "vmcsnote guests"},
		{"tar", at(257, "ustar"), vmcore.KindTar, "tar -xf"},
		{"cpio", at(0, "070701"), vmcore.KindCpio, "cpio -id"},
		{"zip", at(0, "PK\x03\x04"), vmcore.KindZip, "unzip"},
		{"qcow2", at(0, "QFI\xfb"), vmcore.KindQcow2, "guest's disk"},
		{"ext4", at(1080, "\x53\xef"), vmcore.KindFS, "mount"},
		{"LVM", at(512, "LABELONE"), vmcore.KindVolume, "vgchange"},
		{"GPT", at(512, "EFI PART"), vmcore.KindPartition, "losetup"},
		{"bzImage", at(0, "MZ"), vmcore.KindPE, "not its dump"},
		{"journal", at(0, "LPKSHHRH"), vmcore.KindJournal, "coredumpctl"},
		{"netdump's log", "[    0.000000] Linux version 6.1\n", vmcore.KindText, "vmcore-dmesg.txt"},
		{"zeros", strings.Repeat("\x00", 5000), vmcore.KindZeros, "another device"},
		{"raw memory", at(0, "\xf0\x01\x02"), vmcore.KindUnknown, "--raw"},
		{"nothing", "", vmcore.KindUnknown, "/proc/vmcore"},
	} {
		_, err := vmcore.Open(strings.NewReader(tt.bytes), int64(len(tt.bytes)))
		var not vmcore.NotCoreError
		if !errors.Is(err, vmcore.ErrNotCore) || errors.As(err, &not) != (tt.bytes != "") || not.Kind != tt.kind {
			t.Errorf("%s: got %v, of kind %q, want %q", tt.name, err, not.Kind, tt.kind)
			continue
		}
		if !strings.Contains(err.Error(), string(tt.kind)) || !strings.Contains(hint.Of(err), tt.cure) {
			t.Errorf("%s: error %q, hint %q, want %q in it", tt.name, err, hint.Of(err), tt.cure)
		}
	}
}

// TestKindHints: each kind of file has a cure, and each compression an
// unpacker.
func TestKindHints(t *testing.T) {
	for kind := range compressions {
		if hint.Dumps[kind] == "" {
			t.Errorf("no cure for %s", kind)
		}
	}
	for kind, text := range hint.Dumps {
		c, _ := find("inject")
		if !c.fits(text) {
			t.Errorf("%s: %q does not fit inject", kind, text)
		}
	}
}
