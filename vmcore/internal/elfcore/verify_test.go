package elfcore_test

import (
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestVerifySound: a sound core of a kernel, of makedumpfile and of QEMU
// passes.
func TestVerifySound(t *testing.T) {
	for name, remarks := range map[string][]string{
		"deb-t1.thin":            nil,
		"cloud-c1.thin":          nil,
		"deb-t4-smp4.thin":       nil,
		"deb-t1.elf31":           {"phdr[1] has p_offset 0"},
		"deb-d1.qemu-elf.thin":   {"e_phoff is 0xc0"},
		"deb-d1.qemu-elf-p.thin": {"e_phoff is 0xc0", "65801 program headers"},
		"deb-d1.qemu-range":      {"e_phoff is 0xc0"},
		"kernel-slack":           nil,
		"kernel-full":            nil,
		"elf32-lsb":              nil,
		"elf64-msb":              nil,
		"eraseinfo":              nil,
		"vmcoredd":               nil,
		"vmcsinfo":               nil,
		"overlap":                nil,
		"sections-swapped":       {"the byte order of section headers (1)", "e_phoff is 0xc0", "no line SYMBOL(swapper_pg_dir)"},
		"kernel-64k":             nil,
		"gcore":                  nil,
		"gcore-notes-first":      nil,
		"process-alpha":          nil,
	} {
		t.Run(name, func(t *testing.T) {
			found := testdumps.OpenELF(t, name).Verify()
			for i, f := range found {
				if !f.Remark {
					t.Errorf("fault: %s", f.Text)
				}
				if i >= len(remarks) || !strings.Contains(f.Text, remarks[i]) {
					t.Errorf("unexpected remark: %s", f.Text)
				}
			}
			if len(found) != len(remarks) {
				t.Errorf("%d remarks, want %d", len(found), len(remarks))
			}
		})
	}
}

func TestVerifyFaults(t *testing.T) {
	for name, want := range map[string]string{
		"bad-load-overflow":     "expected p_offset + p_filesz below 2^63: no reader",
		"bad-note-not-first":    "expected phdr[0]: crash takes it for memory",
		"bad-notes-after-loads": "reach beyond 0x1000, the p_offset of phdr[1]: crash loses all notes",
		"bad-p-align-8":         "p_align of the PT_NOTE is 8, expected 0 to 4: drgn, readelf and eu-readelf lose notes",
		"bad-note-padding":      "the padding of the last note lacks 1 bytes at offset 0x11b7: readelf, eu-readelf and drgn lose it",
		"notes-align-8":         "the notes are padded to 8 bytes, expected 4: crash and makedumpfile",
		"bad-paddr-overflow":    "overflows: readers differ",
		"bad-vmcsinfo-twice":    "a second VMCSINFO note at 0x",
		"bad-zero-fill-mid":     "64 zero bytes at offset 0x284 stand between notes: crash, eu-readelf and drgn",
		"bad-zero-fill-tail":    "zero fill at offset 0x",
		"deb-t1.head":           "it is truncated: crash and makedumpfile refuse",
		"truncated-memory":      "it is truncated: crash and makedumpfile refuse",
		"no-load":               "no PT_LOAD has a place in the file: crash finds no memory",
		"unused-phdrs":          "could not finish the dump (DUMP_ELF_INCOMPLETE): crash warns",
		"unused-odd":            "phdr[2] is a PT_NULL, expected PT_LOAD: crash takes it for memory",
		"phoff-128":             "e_phoff is 0x80, expected 0x40: crash and makedumpfile",
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range testdumps.OpenELF(t, name).Verify() {
				if !f.Remark {
					got = append(got, f.Text+": "+f.Readers)
				}
			}
			if len(got) != 1 || !strings.Contains(got[0], want) {
				t.Errorf("faults are %q, want one with %q", got, want)
			}
		})
	}
}

// TestVerifyProcess: of a process's core verify tells what gdb, eu-stack and
// readelf choke on, and nothing of crash.
func TestVerifyProcess(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, readers string }{
		"p_align 8":        {"elf\nnotes p_align=8\nnote name=CORE type=3 desc=zero:136\nload p_vaddr=0x1000 p_paddr=0 size=0x1000", "p_align of the PT_NOTE is 8", "gdb"},
		"another size":     {"elf\nnotes at=0x100\nnote name=CORE type=3 desc=zero:136\nload p_vaddr=0x1000 p_paddr=0 size=0x1000\nsection name=note0 at=0x100 sh_type=SHT_NOTE sh_size=0x20", "the notes' section has 0x20 bytes", "eu-readelf"},
		"another place":    {"elf\nnotes at=0x100\nnote name=CORE type=3 desc=zero:136\nload p_vaddr=0x1000 p_paddr=0 size=0x1000\nsection name=x at=0x104 sh_type=SHT_PROGBITS sh_size=0x20", "shares bytes with the notes", "readers see"},
		"cut":              {"elf\nnotes\nnote name=CORE type=3 desc=zero:136\nload p_vaddr=0x1000 p_paddr=0 size=0x1000\ntruncate size=0x300", "it is truncated", "eu-stack"},
		"type of the note": {"elf\nnotes\nnote name=VMCSINFO type=1 desc=zero:136\nload p_vaddr=0x1000 p_paddr=0 size=0x1000", "is of type 0x1, expected 0", "gdb"},
	} {
		t.Run(name, func(t *testing.T) {
			found := testdumps.OpenText(t, tt.text).Verify()
			if len(found) != 1 || found[0].Remark || !strings.Contains(found[0].Text, tt.want) || !strings.Contains(found[0].Readers, tt.readers) {
				t.Errorf("findings are %+v, want one fault with %q of %q", found, tt.want, tt.readers)
			}
		})
	}
}

// TestVerifyAll: no core makes verify fail, and every name is looked at.
func TestVerifyAll(t *testing.T) {
	for _, name := range testcores.Names(t, "*") {
		im := testcores.Image(t, name)
		if c, err := elfcore.Open(im, im.Size()); err == nil {
			c.Verify()
		}
	}
}
