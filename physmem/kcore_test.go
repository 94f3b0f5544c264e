package physmem

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

const (
	dataOff = 0x10000   // where the loads of a test's kcore have their data
	unknown = 1<<64 - 1 // the p_paddr of what is no RAM
)

// kcoreHeaders returns the headers of a core with the program headers given,
// after a PT_NOTE as the kernel has one.
func kcoreHeaders(order binary.ByteOrder, loads ...elf.Prog64) []byte {
	eh := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56}
	copy(eh.Ident[:], elf.ELFMAG)
	eh.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	eh.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	if order == binary.BigEndian {
		eh.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	eh.Phnum = uint16(len(loads) + 1)
	var b bytes.Buffer
	binary.Write(&b, order, eh)
	binary.Write(&b, order, elf.Prog64{Type: uint32(elf.PT_NOTE)})
	binary.Write(&b, order, loads)
	return b.Bytes()
}

func prog(vaddr, paddr, size, off uint64) elf.Prog64 {
	return elf.Prog64{Type: uint32(elf.PT_LOAD), Off: off, Vaddr: vaddr, Paddr: paddr, Filesz: size, Memsz: size, Align: 4096}
}

// kcoreRoot makes a root with a /proc/kcore of these headers and data, and a
// /proc/iomem if there is one.
func kcoreRoot(t *testing.T, headers, data []byte, iomem string) string {
	t.Helper()
	file := make([]byte, dataOff+len(data))
	copy(file, headers)
	copy(file[dataOff:], data)
	root := writeRoot(t, "proc/kcore", file)
	if iomem != "" {
		if err := os.WriteFile(filepath.Join(root, "proc/iomem"), []byte(iomem), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	directMap = 0xff466224c0000000 // random, as on a kernel with KASLR
	kernelMap = 0xffffffffa8a00000
)

// The loads of a machine of two RAM ranges: 64 KiB at 64 KiB, and 512 KiB at 1
// MiB with the kernel's image in it.
func modernLoads() []elf.Prog64 {
	return []elf.Prog64{
		prog(kernelMap, 0x120000, 0x10000, dataOff+0x200000), // stale: must not be read
		prog(0xffffa80000000000, unknown, 1<<45, 0x7fffa80000000000),
		prog(0xffffffffff600000, unknown, 0x1000, 1<<63),
		prog(directMap+0x10000, 0x10000, 0x10000, dataOff+0x10000),
		prog(directMap+0x100000, 0x100000, 0x80000, dataOff+0x100000),
		prog(directMap+0x180000, 0x180000, 0x10000, dataOff+0x190000), // next to it, elsewhere in the file
		prog(directMap, 0x40000000, 1<<63, 0),
		prog(directMap+0x50000000, 0x50000000, 0x1000, 1<<63),
		prog(directMap, 1<<64-0x2000, 0x4000, dataOff),
	}
}

func TestKCoreReadPhys(t *testing.T) {
	data := pattern(0x300000)
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		k, err := OpenKCore(kcoreRoot(t, kcoreHeaders(order, modernLoads()...), data[:0x210000], ""))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		for _, tt := range []struct {
			name string
			addr uint64
			size int
			want []byte
			err  error
		}{
			{"a whole range", 0x10000, 0x10000, data[0x10000:0x20000], nil},
			{"within a range, on no boundary", 0x100123, 0x77, data[0x100123:0x10019a], nil},
			{"nothing asked for", 0, 0, nil, nil},
			{"the kernel's image is read as RAM", 0x120000, 0x100, data[0x120000:0x120100], nil},
			{"over two loads", 0x17fff0, 0x20, append(bytes.Clone(data[0x17fff0:0x180000]), data[0x190000:0x190010]...), nil},
			{"into a hole", 0x1fff0, 0x20, data[0x1fff0:0x20000], ErrNoLoad},
			{"below the first range", 0xfff0, 0x20, nil, ErrNoLoad},
			{"above the last", 0x190000, 1, nil, ErrNoLoad},
			{"a load of 2^63 bytes is no load", 0x40000000, 1, nil, ErrNoLoad},
			{"an offset of 2^63 is no offset", 0x50000000, 1, nil, ErrNoLoad},
			{"a load that wraps is no load", 0, 1, nil, ErrNoLoad},
			{"beyond 2^63", 1 << 63, 1, nil, unix.EFAULT},
			{"unknown is no address", unknown, 1, nil, unix.EFAULT},
		} {
			t.Run(order.String()+"/"+tt.name, func(t *testing.T) {
				p := make([]byte, tt.size)
				n, err := k.ReadPhys(p, tt.addr)
				checkError(t, err, tt.err, tt.addr+uint64(len(tt.want)))
				if !bytes.Equal(p[:n], tt.want) {
					t.Errorf("read %d bytes, want %d, or they are not those of the memory", n, len(tt.want))
				}
			})
		}
	}
}

func TestKCoreCutShort(t *testing.T) {
	k, err := OpenKCore(kcoreRoot(t, kcoreHeaders(binary.LittleEndian, modernLoads()...), pattern(0x18000), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	n, err := k.ReadPhys(make([]byte, 0x10000), 0x10000)
	checkError(t, err, io.ErrUnexpectedEOF, 0x18000)
	if n != 0x8000 {
		t.Errorf("read %#x bytes, want 0x8000", n)
	}
}

func TestKCoreHeaders(t *testing.T) {
	good := kcoreHeaders(binary.LittleEndian, modernLoads()...)
	edit := func(off int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:off]), b...), good[off+len(b):]...)
	}
	for _, tt := range []struct {
		name string
		file []byte
		err  string
	}{
		{"empty", nil, "ELF header: found 0 bytes, expected 64"},
		{"cut in the ELF header", good[:63], "ELF header: found 63 bytes"},
		{"no ELF file", edit(0, 'K'), "e_ident at offset 0: found 4b 45 4c 46"},
		{"32-bit", edit(elf.EI_CLASS, byte(elf.ELFCLASS32)), "expected that of an ELF64 file"},
		{"byte order 3", edit(elf.EI_DATA, 3), "e_ident[EI_DATA] at offset 5: found 3"},
		{"an executable", edit(16, byte(elf.ET_EXEC)), "found ET_EXEC, expected ET_CORE"},
		{"e_phentsize", edit(54, 57), "e_phentsize: found 57, expected 56"},
		{"PN_XNUM", edit(56, 0xff, 0xff), "PN_XNUM"},
		{"e_phoff beyond any file", edit(32, 0, 0, 0, 0, 0, 0, 0, 0x80), "e_phoff: found 0x8000000000000000"},
		{"headers beyond the file", edit(56, 0xfe, 0xff), "program header 10 of 65534 at offset 0x270"},
		{"cut in a program header", good[:len(good)-1], "program header 9 of 10 at offset 0x238: unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := writeRoot(t, "proc/kcore", tt.file)
			_, err := OpenKCore(root)
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), root) {
				t.Errorf("got error %v, want one with the file's name and %q", err, tt.err)
			}
			var e *Error
			if !errors.As(err, &e) || e.Op != OpHeader {
				t.Errorf("got %#v, want an *Error of %q", err, OpHeader)
			}
		})
	}
}

func FuzzReadLoads(f *testing.F) {
	f.Add(kcoreHeaders(binary.LittleEndian, modernLoads()...))
	f.Add(kcoreHeaders(binary.BigEndian, oldLoads()...))
	f.Add(kcoreHeaders(binary.LittleEndian))
	f.Fuzz(func(t *testing.T, b []byte) {
		loads, err := readLoads(bytes.NewReader(b))
		if err != nil && loads != nil {
			t.Fatalf("error %v with %d loads", err, len(loads))
		}
		if len(loads) > len(b)/56 {
			t.Fatalf("%d loads from %d bytes", len(loads), len(b))
		}
		for _, l := range loads {
			if l.usable() && (l.off+l.size < l.off || l.paddr+l.size < l.paddr) {
				t.Fatalf("usable load wraps: %+v", l)
			}
		}
	})
}
