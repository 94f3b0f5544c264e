package linux

import (
	"strings"

	"github.com/pkg/errors"
)

// A layout reads the kernel's variables and structures by what VMCOREINFO
// states of them, otherwise by kallsyms and BTF: a kernel has no VMCOREINFO of
// its own until late in its boot. It keeps the first error.
type layout struct {
	k   *Kernel
	err error
}

// read reads a number at an address.
func (l *layout) read(addr uint64, size int) uint64 {
	if l.err != nil {
		return 0
	}
	v, err := l.k.uint(addr, size)
	l.err = err
	return v
}

// symbol returns a symbol's address.
func (l *layout) symbol(name string) uint64 {
	if l.err != nil {
		return 0
	}
	addr, ok := l.k.info.symbol(name)
	if !ok {
		addr, l.err = l.k.Symbol(name)
	}
	return addr
}

// maxOffset bounds the structures' sizes and offsets.
const maxOffset = 4096

// offset returns the offset of a member: STRUCT.MEMBER.
//
//go:noinline
func (l *layout) offset(member string) uint64 {
	return l.stated("OFFSET("+member+")", func() (uint64, error) {
		name, path, _ := strings.Cut(member, ".")
		s, err := l.k.Struct(name)
		if err != nil {
			return 0, err
		}
		f, err := s.Field(path)
		return f.offset, err
	})
}

// size returns the size of a struct.
func (l *layout) size(name string) uint64 {
	return l.stated("SIZE("+name+")", func() (uint64, error) {
		s, err := l.k.Struct(name)
		if err != nil {
			return 0, err
		}
		return s.Size(), nil
	})
}

// stated returns the value of a line of VMCOREINFO, or what BTF has in its
// place.
func (l *layout) stated(key string, btf func() (uint64, error)) uint64 {
	if l.err != nil {
		return 0
	}
	v, ok := l.k.info.decimal(key)
	if !ok {
		v, l.err = btf()
	}
	if l.err == nil && v > maxOffset {
		l.err = errors.Errorf("%s is %d, expected at most %d", key, v, maxOffset)
	}
	return v
}
