package elfcore_test

import (
	"math"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestOpenBad: what cannot be opened says at which offset what was found, and
// what was expected.
func TestOpenBad(t *testing.T) {
	for name, want := range map[string]string{
		"bad-not-core":          "e_type at offset 0x10: found ET_EXEC, expected ET_CORE",
		"bad-no-note":           "without a PT_NOTE, expected one PT_NOTE",
		"bad-two-notes":         "two PT_NOTEs, phdr[0] with ",
		"bad-descsz":            "n_descsz at offset 0x",
		"bad-descsz-4gib":       "n_descsz at offset 0x",
		"bad-namesz":            "n_namesz at offset 0x",
		"bad-namesz-4gib":       "n_namesz at offset 0x",
		"bad-note-header-cut":   "note header at offset 0x",
		"bad-notes-overflow":    "expected p_offset + p_filesz below 2^63",
		"bad-notes-past-end":    "notes within the file's ",
		"bad-notes-size-max":    "expected p_offset + p_filesz below 2^63",
		"bad-notes-over-header": "n_namesz at offset 0x0: found 0x464c457f",
		"bad-notes-into-load":   "at offset 0x",
		"bad-phdrs-past-end":    "program header table at offset 0x20: found ",
		"bad-phentsize":         "e_phentsize at offset 0x36: found 55, expected 56 to 256",
		"bad-shentsize-0":       "e_shentsize at offset 0x3a: found 0, expected 64 to 256",
		"bad-phnum-0":           "e_phnum at offset 0x38: found 0",
		"bad-phoff-overflow":    "program header table",
		"bad-truncated-header":  "ELF header at offset 0x0: found the end of the file",
		"bad-truncated-notes":   "notes within the file's ",
		"bad-truncated-phdrs":   "program header table",
		"bad-xnum-huge":         "expected at most 4194304",
		"bad-xnum-no-section":   "expected section header 0 within",
		"bad-xnum-past-end":     "expected section header 0 within",
		"bad-load-overflow":     "", // these open
		"bad-note-names":        "",
		"bad-note-padding":      "",
		"bad-paddr-overflow":    "",
		"bad-prstatus":          "",
		"bad-prstatus-short":    "",
		"bad-many-notes":        "",
		"bad-note-not-first":    "",
		"bad-notes-after-loads": "",
		"bad-notes-empty":       "",
		"bad-p-align-8":         "",
		"bad-vmcsinfo-twice":    "",
		"bad-zero-fill-mid":     "",
		"bad-zero-fill-tail":    "",
	} {
		t.Run(name, func(t *testing.T) {
			im := testcores.Image(t, name)
			c, err := elfcore.Open(im, im.Size())
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want == "":
			case err == nil || c != nil:
				t.Errorf("opened, want %q", want)
			case !strings.Contains(err.Error(), want):
				t.Errorf("error is %q, want %q", err, want)
			}
		})
	}
	for _, name := range testcores.Names(t, "bad-*") { // none was forgotten
		if im := testcores.Image(t, name); im.Size() == 0 {
			t.Errorf("%s is empty", name)
		}
	}
}

func TestOpenReal(t *testing.T) {
	for _, tc := range []struct {
		name   string
		format string
		progs  int
		notes  string
	}{
		{"deb-t1.thin", "elf64", 5, "CORE CORE VMCOREINFO"},
		{"deb-t1.head", "elf64", 5, "CORE CORE VMCOREINFO"},
		{"deb-t1.elf31", "elf64", 18, "CORE CORE VMCOREINFO"},
		{"deb-d1.qemu-elf.thin", "elf64", 3, "CORE QEMU VMCOREINFO"},
		{"deb-d1.qemu-elf-p.thin", "elf64", 65801, "CORE QEMU VMCOREINFO"},
		{"elf32-lsb", "elf32", 4, ""},
		{"elf32-msb", "elf32-be", 3, ""},
		{"elf64-msb", "elf64-be", 3, ""},
		{"vmcoredd", "elf64", 3, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			im := testcores.Image(t, tc.name)
			c, err := elfcore.Open(im, im.Size())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, n := range c.Notes().Notes {
				names = append(names, n.Name)
			}
			if got := strings.Join(names, " "); tc.notes != "" && got != tc.notes {
				t.Errorf("notes are %s, want %s", got, tc.notes)
			}
			if c.Format() != tc.format {
				t.Errorf("format is %s, want %s", c.Format(), tc.format)
			}
			if tc.notes != "" && len(c.Progs) != tc.progs {
				t.Errorf("%d program headers, want %d", len(c.Progs), tc.progs)
			}
		})
	}
}

// TestELF32Full: a 32-bit core whose offsets leave no room for another page.
func TestELF32Full(t *testing.T) {
	b := testcores.Bytes(t, "elf32-msb")
	c, err := elfcore.Open(strings.NewReader(string(b)), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	last := len(c.Progs) - 1
	c.Progs[last].Off = math.MaxUint32 - c.Progs[last].Filesz - 100
	if _, err := c.PlanCopy(c.Notes().Insert(testdumps.Note(t, "elf32-msb"))); err == nil || !strings.Contains(err.Error(), "room for 0x1000 bytes more below 0xffffffff") {
		t.Errorf("error is %v", err)
	}
}
