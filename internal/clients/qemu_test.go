package clients

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"vmcsnote/internal/sparse"
	"vmcsnote/internal/testcores"
)

// TestQEMU: a dump as QEMU writes it, in which no client minds that the first
// pages of memory stand at the end: section headers before the program headers,
// then notes and memory without a gap. Its memory is that of a kernel's dump,
// and what makedumpfile, which cannot read QEMU's layout, reads of the result
// is what it reads of that one.
func TestQEMU(t *testing.T) {
	const name = "deb-t1.mdf"
	kernel := testcores.Open(t, name)
	before := asQEMU(t, kernel)
	after := injectInto(t, asQEMU(t, kernel), name, "split")
	t.Run("as before", func(t *testing.T) {
		compare(t, "readelf crash drgn gdb", before, after)
	})
	t.Run("as the kernel's", func(t *testing.T) {
		compare(t, "makedumpfile", kernel, after)
	})
}

// asQEMU returns a dump with the notes and the memory of the one at path, laid
// out as QEMU 7.2 and newer lays it out.
func asQEMU(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	core, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	im, err := sparse.Scan(f)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "qemu"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	const shdrs, phdrs = 64, 192
	at := uint64(phdrs + 56*len(core.Progs))
	var table bytes.Buffer
	for _, p := range core.Progs {
		put(t, &table, elf.Prog64{Type: uint32(p.Type), Off: at, Vaddr: p.Vaddr, Paddr: p.Paddr, Filesz: p.Filesz, Memsz: p.Memsz})
		copySparse(t, out, im, int64(at), int64(p.Off), int64(p.Filesz))
		at += p.Filesz
	}
	names := "\x00.shstrtab\x00"
	var head bytes.Buffer
	put(t, &head, elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: phdrs, Shoff: shdrs, Ehsize: 8, Phentsize: 56, Phnum: uint16(len(core.Progs)), Shentsize: 64, Shnum: 2, Shstrndx: 1})
	put(t, &head, [2]elf.Section64{{}, {Name: 1, Type: uint32(elf.SHT_STRTAB), Off: at, Size: uint64(len(names))}})
	head.Write(table.Bytes())
	for off, b := range map[int64][]byte{0: head.Bytes(), int64(at): []byte(names)} {
		if _, err := out.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	return out.Name()
}

func put(t *testing.T, b *bytes.Buffer, v any) {
	t.Helper()
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
}

// copySparse writes n bytes at offset from of a file to offset off of another,
// but for holes.
func copySparse(t *testing.T, out io.WriterAt, im *sparse.Image, off, from, n int64) {
	t.Helper()
	for at, end := from, from+n; at < end; {
		var start int64
		start, at = im.NextData(at, end)
		b := make([]byte, at-start)
		if _, err := im.ReadAt(b, start); err != nil {
			t.Fatal(err)
		}
		if _, err := out.WriteAt(b, off+start-from); err != nil {
			t.Fatal(err)
		}
	}
}
