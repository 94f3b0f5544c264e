package coretext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

func build(t *testing.T, text string) []byte {
	t.Helper()
	core, err := Build([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// typical is a core without lies, but for its first line.
const typical = ` round=0x1000
notes p_align=4
note name=CORE type=NT_PRSTATUS desc=zero:32 desc=u32:7 desc=fill:3:0xaa # pid 7
note name=VMCOREINFO desc="OSRELEASE=6.1 #1\n"
  desc="PAGESIZE=4096\n"
data bytes=zero:12
load p_vaddr=0xc0001000 p_paddr=0x1000 size=0x800
load p_paddr=0x4000 p_memsz=0x3000 bytes=fill:16:0x5a
load p_paddr=0x9000 p_memsz=0x1000 p_offset=0
section name=.shstrtab
section name=info sh_type=SHT_PROGBITS bytes=hex:010203
`

// TestBuildWellFormed reads what was built with debug/elf.
func TestBuildWellFormed(t *testing.T) {
	tests := []struct {
		name, first string
		class       elf.Class
		order       binary.ByteOrder
		machine     elf.Machine
	}{
		{"64-bit little endian", "elf", elf.ELFCLASS64, binary.LittleEndian, elf.EM_X86_64},
		{"64-bit big endian", "elf data=msb e_machine=EM_S390", elf.ELFCLASS64, binary.BigEndian, elf.EM_S390},
		{"32-bit little endian", "elf class=32 e_machine=EM_386", elf.ELFCLASS32, binary.LittleEndian, elf.EM_386},
		{"32-bit big endian", "elf class=32 data=msb e_machine=20", elf.ELFCLASS32, binary.BigEndian, elf.EM_PPC},
		{"tables elsewhere", "elf shdrs=64 phdrs=0x200", elf.ELFCLASS64, binary.LittleEndian, elf.EM_X86_64},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := elf.NewFile(bytes.NewReader(build(t, test.first+typical)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Class != test.class || f.ByteOrder != test.order || f.Machine != test.machine || f.Type != elf.ET_CORE {
				t.Errorf("header %+v", f.FileHeader)
			}

			rwx := elf.PF_R | elf.PF_W | elf.PF_X
			notes := uint64(12 + 8 + 40 + 12 + 12 + 32 + 12)
			want := []elf.ProgHeader{
				{Type: elf.PT_NOTE, Off: 0x1000, Filesz: notes, Memsz: notes, Align: 4},
				{Type: elf.PT_LOAD, Flags: rwx, Off: 0x2000, Vaddr: 0xc0001000, Paddr: 0x1000, Filesz: 0x800, Memsz: 0x800},
				{Type: elf.PT_LOAD, Flags: rwx, Off: 0x3000, Paddr: 0x4000, Filesz: 16, Memsz: 0x3000},
				{Type: elf.PT_LOAD, Flags: rwx, Paddr: 0x9000, Memsz: 0x1000},
			}
			if len(f.Progs) != len(want) {
				t.Fatalf("%d program headers, want %d", len(f.Progs), len(want))
			}
			contents := make([][]byte, len(want))
			for i, prog := range f.Progs {
				if prog.ProgHeader != want[i] {
					t.Errorf("program header %d\ngot  %+v\nwant %+v", i, prog.ProgHeader, want[i])
				}
				if contents[i], err = io.ReadAll(prog.Open()); err != nil {
					t.Fatal(err)
				}
			}

			var header [3]uint32
			binary.Decode(contents[0], test.order, &header)
			if header != [3]uint32{5, 39, 1} || string(contents[0][12:20]) != "CORE\x00\x00\x00\x00" {
				t.Errorf("first note %x", contents[0][:20])
			}
			if pid := test.order.Uint32(contents[0][20+32:]); pid != 7 || !bytes.Equal(contents[0][56:60], []byte("\xaa\xaa\xaa\x00")) {
				t.Errorf("first note's desc %x", contents[0][20:60])
			}
			if !bytes.HasSuffix(contents[0], []byte("OSRELEASE=6.1 #1\nPAGESIZE=4096\n\x00"+strings.Repeat("\x00", 12))) {
				t.Errorf("second note %q", contents[0][60:])
			}
			pattern := make([]byte, 0x800)
			Pattern(pattern, 0x1000)
			if !bytes.Equal(contents[1], pattern) {
				t.Errorf("memory at 0x1000: %x", contents[1])
			}
			if string(contents[2]) != strings.Repeat("Z", 16) {
				t.Errorf("memory at 0x4000: %x", contents[2])
			}

			info := f.Section("info")
			if info == nil || info.Type != elf.SHT_PROGBITS {
				t.Fatalf("sections %v", f.Sections)
			}
			if data, err := info.Data(); string(data) != "\x01\x02\x03" || err != nil {
				t.Errorf("section info: %x, %v", data, err)
			}
		})
	}
}

// TestBuildBytes looks at single fields, where lies and oddities are.
func TestBuildBytes(t *testing.T) {
	const ( // offsets in Elf64_Ehdr, Elf64_Phdr and Elf64_Shdr
		phoff, shoff, phentsize, phnum, shnum = 32, 40, 54, 56, 60
		phdr                                  = 64
		offset, filesz                        = phdr + 8, phdr + 32
		info                                  = 44
	)
	tests := []struct {
		name, text string
		at         int
		want       string // hex
	}{
		{"PN_XNUM", "elf xnum\nload", phnum, "ffff"},
		{"PN_XNUM's count in section 0", "elf xnum shdrs=0x1000\nload\nload", 0x1000 + info, "02000000"},
		{"PN_XNUM's count, a lie", "elf xnum=0xfffffff0 shdrs=0x1000\nload", 0x1000 + info, "f0ffffff"},
		{"PN_XNUM needs the null section only", "elf xnum\nload", shnum, "0100"},
		{"section headers after all else", "elf xnum\nload size=0x10", shoff, "8800000000000000"},
		{"program headers elsewhere", "elf phdrs=0xc1\nload", phoff, "c100000000000000"},
		{"program headers said to be elsewhere", "elf e_phoff=0xc1\nload", phoff, "c100000000000000"},
		{"odd entry size", "elf e_phentsize=55\nload", phentsize, "3700"},
		{"offset of all ones", "elf\nload p_offset=-1", offset, "ffffffffffffffff"},
		{"offset of all ones in 32 bits", "elf class=32\nload p_offset=-1", 52 + 4, "ffffffff"},
		{"offset of 1<<63", "elf\nload p_offset=0x8000000000000000", offset, "0000000000000080"},
		{"size that is not", "elf\nload size=8 p_filesz=0x10", filesz, "1000000000000000"},
		{"segment elsewhere", "elf\nload at=0x200 bytes=\"here\"", 0x200, "68657265"},
		{"namesz and descsz that are not", "elf\nnotes\nnote name=A desc=\"b\" n_namesz=-1 n_descsz=0x80000000", phdr + 56, "ffffffff 00000080 00000000 41000000 62000000"},
		{"note without name", "elf\nnotes\nnote type=3", phdr + 56, "00000000 00000000 03000000"},
		{"note three times", "elf\nnotes\nnote type=3 repeat=3", phdr + 56, strings.Repeat("000000000000000003000000", 3)},
		{"numbers in the core's order", "elf data=msb\nnotes\ndata bytes=u64:-2 bytes=u32:0x102", phdr + 56, "fffffffffffffffe 00000102"},
		{"patch", "elf\nload size=8\npatch at=122 bytes=hex:ff", 120, "c0de ff0000000000"},
		{"patch after the end", "elf\npatch at=0x48 bytes=hex:ff", 64, "0000000000000000ff"},
		{"truncated", "elf\nload size=8\ntruncate size=121", 120, "c0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(test.want, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			core := build(t, test.text)
			if got := core[test.at:min(len(core), test.at+len(want))]; !bytes.Equal(got, want) {
				t.Errorf("at %#x: got %x, want %x", test.at, got, want)
			}
			if strings.HasPrefix(test.name, "truncated") && len(core) != 121 {
				t.Errorf("%d bytes", len(core))
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"nothing", "# nothing\n", "expected elf"},
		{"no elf line", "load size=8", "expected elf"},
		{"elf twice", "elf\nelf", "line 2: elf: expected as the first line only"},
		{"unknown verb", "elf\nlaod size=8", "line 2: laod: unknown verb"},
		{"unknown key", "elf\nload sise=8", `line 2: load: unknown key "sise"`},
		{"unknown key of a note", "elf\nnotes\nnote nmae=x", `line 3: note: unknown key "nmae"`},
		{"unknown field", "elf\nload p_fliesz=8", `unknown field "p_fliesz"`},
		{"no field", "elf\nload p_=8", `unknown field "p_"`},
		{"field that is no number", "elf e_ident=8", `unknown field "e_ident"`},
		{"key twice", "elf\nload size=8\n size=9", "line 2: load: size given twice"},
		{"continues nothing", " elf", "line 1: expected a verb"},
		{"not a number", "elf\nload size=x", `size: found "x"`},
		{"number too large for its field", "elf e_phnum=0x10000", "16 bits"},
		{"number too small for its field", "elf e_phnum=-0x8001", "16 bits"},
		{"number too large for the class", "elf class=32\nload p_paddr=0x100000000", "Paddr is 0x100000000"},
		{"unknown constant", "elf e_machine=EM_PDP12", `e_machine: found "EM_PDP12"`},
		{"class", "elf class=16", "expected 32 or 64"},
		{"byte order", "elf data=pdp", "expected lsb or msb"},
		{"open quote", "elf\nnotes\nnote desc=\"abc", "line 3: \"abc: expected a quoted string"},
		{"bytes that are none", "elf\nnotes\ndata bytes=abc", "bytes: found"},
		{"bad hex", "elf\nnotes\ndata bytes=hex:abc", "odd length"},
		{"bad fill", "elf\nnotes\ndata bytes=fill:3:0x100", "times a byte"},
		{"u32 too large", "elf\nnotes\ndata bytes=u32:0x100000000", "does not fit"},
		{"note outside of notes", "elf\nload\nnote name=x", "line 3: note: expected after a notes line"},
		{"size and bytes", "elf\nload size=1 bytes=\"a\"", "found both"},
		{"truncated after the end", "elf\ntruncate size=65", "at most the file's 64"},
		{"huge fill", "elf\nnotes\ndata bytes=zero:0x7fffffffffffffff", "at most 16777216"},
		{"many large fills", "elf\nnotes\ndata bytes=zero:0xffffff bytes=zero:0xffffff", "more than 16777216 bytes"},
		{"many large lines", "elf\nnotes\ndata bytes=zero:0xffffff\ndata bytes=zero:0xffffff", "more than 16777216 bytes"},
		{"many notes", "elf\nnotes\nnote repeat=0x1000000000000001", "at most 16777216 bytes"},
		{"huge load", "elf\nload size=0x1000001", "at most 16777216"},
		{"far away", "elf\nload at=-1 size=1", "at most 16777216 bytes"},
		{"huge round", "elf round=0x8000000000000000\nload size=1", "at most 16777216 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			core, err := Build([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
			if core != nil {
				t.Error("a core with an error")
			}
		})
	}
}

func TestPattern(t *testing.T) {
	p := make([]byte, 24)
	Pattern(p, 0x123456789000)
	if got, want := hex.EncodeToString(p), "c0de123456789000c0de123456789008c0de123456789010"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	odd := make([]byte, 11)
	Pattern(odd, 0x123456789003)
	if !bytes.Equal(odd, p[3:14]) {
		t.Errorf("from an odd address: %x, want %x", odd, p[3:14])
	}
}

// FuzzBuild shows that no text makes Build panic or exceed its bound, and that
// an error comes alone.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("elf" + typical))
	f.Add([]byte("elf class=32 data=msb xnum=70000 shdrs=0x1000 phdrs=3 e_phnum=-1\nnotes at=0\nload at=7 size=0x10 p_offset=-1\npatch at=0 bytes=\"\\x00\"\ntruncate size=3"))
	f.Fuzz(func(t *testing.T, text []byte) {
		core, err := Build(text)
		if err != nil && core != nil {
			t.Error("a core with an error")
		}
		if len(core) > maxSize {
			t.Errorf("%d bytes", len(core))
		}
	})
}
