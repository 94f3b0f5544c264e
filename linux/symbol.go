package linux

import (
	"fmt"

	"github.com/pkg/errors"
)

// A Symbol is what stands at or before an address.
type Symbol struct {
	Name   string
	Module string // "" for the kernel's image
	Addr   uint64 // of the symbol
	Offset uint64 // from there to the address that was asked for
}

// String returns the symbol as the kernel prints it: name+0x10 [module].
func (s Symbol) String() string {
	text := s.Name
	if s.Offset != 0 {
		text += fmt.Sprintf("+%#x", s.Offset)
	}
	if s.Module != "" {
		text += " [" + s.Module + "]"
	}
	return text
}

// Symbol returns the address of a symbol in the kernel's image. The error wraps
// [ErrNoSymbol] if there is none.
func (k *Kernel) Symbol(name string) (uint64, error) {
	s, err := k.kallsyms()
	if err != nil {
		return 0, err
	}
	i, ok := s.find(name)
	if !ok {
		return 0, errors.WithMessage(ErrNoSymbol, name)
	}
	return s.addr(i), nil
}

// SymbolAt returns the symbol that an address in the image or in a module
// belongs to. The error wraps [ErrNoSymbol] if the address is in neither.
func (k *Kernel) SymbolAt(addr uint64) (Symbol, error) {
	if k.inImage(addr) {
		s, err := k.kallsyms()
		if err != nil {
			return Symbol{}, err
		}
		if i, ok := s.at(addr); ok && s.addr(i) >= imageStart {
			return Symbol{Name: s.name(i), Addr: s.addr(i), Offset: addr - s.addr(i)}, nil
		}
		return Symbol{}, errors.WithMessagef(ErrNoSymbol, "%#x", addr)
	}
	modules, err := k.Modules()
	if err != nil {
		return Symbol{}, err
	}
	if m, ok := k.codeOf(addr); ok {
		modules = []*Module{m}
	}
	for _, m := range modules {
		if sym, ok := m.symbolAt(addr); ok {
			return sym, nil
		}
	}
	return Symbol{}, errors.WithMessagef(ErrNoSymbol, "%#x", addr)
}
