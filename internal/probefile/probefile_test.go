package probefile

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcs"
)

// TestKernelModule runs the kernel module's experiments on models of
// processors, in user space, and reads the files that the module would have:
// see kmod/locate_test.c.
func TestKernelModule(t *testing.T) {
	cc := testcores.Tool(t, "cc")
	dir := t.TempDir()
	program := filepath.Join(dir, "locate_test")
	for _, args := range [][]string{{cc, "-O", "-Wall", "-Werror", "-o", program, "../../kmod/locate_test.c"}, {program, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	for _, tt := range []struct {
		name, file   string
		all, none    bool // fields are located
		cleared      bool // VMCLEAR alone changes bytes
		alone, wider bool // each field changes bytes, and also others
	}{
		{name: "nothing is kept inside", file: "0", all: true, alone: true},
		{name: "a counter at VMCLEAR", file: "5", all: true, alone: true, cleared: true, wider: true},
		{name: "fields that the processor lacks", file: "9"},
		{name: "nothing can be located", file: "15", none: true, alone: true, cleared: true, wider: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, tt.file))
			if err != nil {
				t.Fatal(err)
			}
			f, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(f.Facts), "\nCPU_MODEL=b7\n") {
				t.Errorf("the facts are %q, expected CPU_MODEL=b7", f.Facts)
			}
			if n := f.Located(); tt.all != (n == len(f.Fields)) || tt.none != (n == 0) || len(f.Fields) < 150 {
				t.Errorf("%d of %d fields located", n, len(f.Fields))
			}
			if (len(f.Cleared) > 0) != tt.cleared {
				t.Errorf("VMCLEAR changes %v", f.Cleared)
			}
			for _, field := range f.Fields {
				if field.Offset >= 0 && field.Write == 0 && field.Encoding.Width() == 8 {
					want := binary.LittleEndian.AppendUint64(nil, field.Marker)
					if !bytes.Equal(field.At(f.Zeros), want) || !bytes.Equal(field.At(f.Ones), want) {
						t.Errorf("%v: %x over zeros and %x over ones, expected %x", field.Encoding, field.At(f.Zeros), field.At(f.Ones), want)
					}
				}
				if field.Write != 0 || !tt.alone {
					continue
				}
				others := 0
				for _, d := range field.Alone {
					if !tt.none && (d.Offset < int(field.Offset) || d.Offset >= int(field.Offset)+field.Encoding.Width()) {
						others++
					}
				}
				if len(field.Alone) == 0 || !tt.wider && others > 0 {
					t.Errorf("%v: VMWRITE of it alone changes %v", field.Encoding, field.Alone)
				}
			}
		})
	}
}

// file makes a file of sections.
func file(sections ...[]byte) []byte {
	b := append([]byte(magic), 1, 0, 0, 0, 0, 0, 0, 0)
	for _, s := range sections {
		b = append(b, s...)
	}
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)))
	return b
}

func sectionOf(name string, count, size uint32, records ...byte) []byte {
	b := make([]byte, 8)
	copy(b, name)
	b = binary.LittleEndian.AppendUint32(b, count)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = append(b, records...)
	return append(b, make([]byte, -len(b)&7)...)
}

// A longer record, of a later module: GUEST_CR0 at 0x123.
var longer = append([]byte{0x12: 0, 0x19: 1, 0x18: 0x23, 0x1c: 0x00, 0x1d: 0x68, 0x1f: 0}, make([]byte, 8)...)

var files = []struct {
	name string
	b    []byte
	want string // of the error
}{
	{"empty", nil, `begins with ""`},
	{"of something else", []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "expected \"VMCSPROB\""},
	{"of another version", append([]byte(magic), 2, 0, 0, 0, 16, 0, 0, 0), "version 2 of 16 bytes, expected version 1"},
	{"cut off", file(sectionOf("facts", 4, 1, 'A', '=', '1', '\n'))[:20], "version 1 of 40 bytes, expected version 1 of at most 20"},
	{"that ends within a section", file([]byte("facts")), "offset 0x10: 5 bytes, expected a section"},
	{"with more records than bytes", file(sectionOf("zeros", 1<<31, 1<<31)), "has 2147483648 records of 2147483648 bytes, expected of at least 1, and 0 bytes in all at most"},
	{"with short records", file(sectionOf("fields", 1, 8, make([]byte, 8)...)), "1 records of 8 bytes, expected of at least 32"},
	{"with short differences", file(sectionOf("diffs", 2, 1, 1, 2)), "2 records of 1 bytes, expected of at least 6"},
	{"with records of no bytes", file(sectionOf("fields", 1<<31, 0)), "2147483648 records of 0 bytes, expected of at least 32"},
	{"with records of no bytes that are not known", file(sectionOf("later", 1<<31, 0)), ""},
	{"with a section that is not known", file(sectionOf("later", 3, 1, 1, 2, 3), sectionOf("fields", 1, uint32(len(longer)), longer...)), ""},
}

func TestParse(t *testing.T) {
	for _, tt := range files {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse(tt.b)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if err == nil && strings.Contains(tt.name, "a section") && (len(f.Fields) != 1 || f.Fields[0].Encoding != vmcs.GuestCR0 || f.Fields[0].Offset != 0x123) {
				t.Errorf("fields %+v, expected GUEST_CR0 at 0x123", f.Fields)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range files {
		f.Add(tt.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(b)
		if err != nil {
			return
		}
		file.Located()
		for _, field := range file.Fields {
			if at := field.At(file.Zeros); at != nil && len(at) != field.Encoding.Width() {
				t.Errorf("%v has %d bytes of a page, expected %d", field.Encoding, len(at), field.Encoding.Width())
			}
		}
	})
}
