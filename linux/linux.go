package linux

import (
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

var (
	// ErrNoSymbol means that kallsyms has no symbol of this name.
	ErrNoSymbol = errors.New("no such symbol")
	// ErrNoKallsyms means that the kernel's symbols were not found.
	ErrNoKallsyms = errors.New("no kallsyms found")
	// ErrNoBTF means that the kernel, or a module, has no BTF.
	ErrNoBTF = errors.New("no BTF")
	// ErrLoop means that a list or a tree leads back into itself.
	ErrLoop = errors.New("leads back into itself")
	// ErrTooMany means that a list or a tree has more entries than are
	// read.
	ErrTooMany = errors.New("too many entries")
	// ErrCorrupt means that something in the kernel cannot be what it
	// should.
	ErrCorrupt = errors.New("corrupt")
)

// A Kernel is a Linux kernel in memory. It is not safe for concurrent use.
type Kernel struct {
	mem  physmem.Reader
	info info
	own  string // the text that info is of, if Find has found it

	physBase uint64 // what to add to an address in the image, less imageStart
	offset   uint64 // KASLR: how far the image was moved
	levels   int    // of page tables
	tables   *x86.Tables
	image    []span // where to look for kallsyms first; nil for the whole image
	cache    pageCache
	meter    *meter // nil for no bound

	symbols lazy[*kallsyms]
	types   lazy[*types]
	modules lazy[[]*Module]
	tasks   lazy[*taskFields]
	split   lazy[map[uint64]btfModule]
	unwind  lazy[*orc]
	cpus    lazy[[]uint64]
	code    lazy[[]span]

	moduleBytes uint64 // of modules' symbols that were read
	entries     int    // of XArrays that were met
}

// imageStart is __START_KERNEL_map: the kernel's image and the modules lie
// above.
const imageStart = 0xffffffff_80000000

// maxImage is KERNEL_IMAGE_SIZE with KASLR: modules begin after it.
const maxImage = 1 << 30

// Open takes the memory of a kernel and the text of its VMCOREINFO. It fails if
// VMCOREINFO lacks what leads to memory, and reads nothing yet.
func Open(mem physmem.Reader, vmcoreinfo string) (*Kernel, error) {
	k := &Kernel{mem: mem, info: parseInfo(vmcoreinfo)}
	pgd, ok := k.info.symbol("swapper_pg_dir")
	if !ok || pgd < imageStart {
		return nil, errors.New("VMCOREINFO has no usable SYMBOL(swapper_pg_dir)")
	}
	if k.physBase, ok = k.info.number("phys_base"); !ok {
		return nil, errors.New("VMCOREINFO has no NUMBER(phys_base)")
	}
	k.offset, _ = k.info.hex("KERNELOFFSET")
	k.levels = 4
	if l5, _ := k.info.number("pgtable_l5_enabled"); l5 != 0 {
		k.levels = 5
	}
	format := x86.Pages(k.levels)
	format.Encrypted = k.EncryptionMask()
	k.tables = x86.NewTables(mem, format, k.imagePhys(pgd))
	return k, nil
}

// Release returns the kernel's version as uname -r prints it, or "".
func (k *Kernel) Release() string { return k.info["OSRELEASE"] }

// BuildID returns the kernel's build ID in hexadecimal digits, or "" before
// Linux 5.9.
func (k *Kernel) BuildID() string { return k.info["BUILD-ID"] }

// EncryptionMask returns the bit of page table entries that is no part of an
// address but marks encrypted memory: AMD's C-bit, 0 if memory is not
// encrypted.
func (k *Kernel) EncryptionMask() uint64 {
	mask, _ := k.info.number("sme_mask")
	return mask
}

// lazy is a value that is made when it is first asked for. An error stays.
type lazy[T any] struct {
	done  bool
	value T
	err   error
}

func (l *lazy[T]) get(make func() (T, error)) (T, error) {
	if !l.done {
		l.value, l.err = make()
		l.done = true
	}
	return l.value, l.err
}

// corrupt returns an error that wraps [ErrCorrupt].
//
//go:noinline
func corrupt(format string, args ...any) error {
	return errors.WithMessage(ErrCorrupt, fmt.Sprintf(format, args...))
}
